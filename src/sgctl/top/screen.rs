//! What `sgctl top` looks like.

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Row as Cells, Table},
};

use super::{
    super::table::{Cell as TextCell, Table as TextTable, Tone},
    Order, Row,
};

const HEADINGS: [&str; 7] = [
    "NIC",
    "SENT bit/s",
    "pkt/s",
    "RECV bit/s",
    "pkt/s",
    "DROP pkt/s",
    "MOST FOR",
];

/// All of it has room on the usual terminal of 80 columns.
const WIDTHS: [Constraint; 7] = [
    Constraint::Min(20),
    Constraint::Length(10),
    Constraint::Length(5),
    Constraint::Length(10),
    Constraint::Length(5),
    Constraint::Length(10),
    Constraint::Length(14),
];

/// The screen.
#[derive(Debug)]
pub(super) struct Screen {
    /// Where the agent is.
    host: String,
    colour: bool,
    /// Nothing before there are two readings.
    rows: Option<Vec<Row>>,
    order: Order,
    /// How many rows are above the screen.
    above: usize,
}

impl Screen {
    pub(super) fn new(host: String, colour: bool) -> Self {
        Self {
            host,
            colour,
            rows: None,
            order: Order::default(),
            above: 0,
        }
    }

    /// Shows these rows from now on.
    pub(super) fn show(&mut self, mut rows: Vec<Row>) {
        self.order.sort(&mut rows);
        self.rows = Some(rows);
        self.scroll(0);
    }

    pub(super) fn order(&mut self, order: Order) {
        self.order = order;
        self.above = 0;
        if let Some(rows) = &mut self.rows {
            order.sort(rows);
        }
    }

    pub(super) fn scroll(&mut self, by: isize) {
        let last = self
            .rows
            .as_ref()
            .map_or(0, |rows| rows.len().saturating_sub(1));
        self.above = self.above.saturating_add_signed(by).min(last);
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
        ]);
        let [head, body, foot] = areas.areas(frame.area());
        let rows = self.rows.as_deref().unwrap_or_default();
        let what = match &self.rows {
            None => "measuring ...".to_owned(),
            Some(rows) if rows.len() == 1 => "1 NIC".to_owned(),
            Some(rows) => format!("{} NICs", rows.len()),
        };
        frame.render_widget(Line::from(format!("sgagent {}: {what}", self.host)), head);
        let strong = Style::new().add_modifier(Modifier::BOLD);
        let shown = rows.iter().skip(self.above).map(|row| {
            let style = match self.tone(row) {
                Tone::Bad => Style::new().fg(Color::Red),
                Tone::Plain | Tone::Good | Tone::Warn | Tone::Head => Style::new(),
            };
            // Nothing that a name may hold gets to the terminal as a control.
            let cells = texts(row).map(|text| Cell::from(TextCell::new(&text, Tone::Plain).text()));
            Cells::new(cells).style(style)
        });
        let table = Table::new(shown, WIDTHS).header(Cells::new(HEADINGS).style(strong));
        frame.render_widget(table, body);
        let keys = format!(
            "order [{}]: d dropped, s sent, r received, n name   arrows: scroll   q: quit",
            self.order.key()
        );
        frame.render_widget(Line::from(keys), foot);
    }

    fn tone(&self, row: &Row) -> Tone {
        if self.colour && row.dropped_packets > 0.0 {
            Tone::Bad
        } else {
            Tone::Plain
        }
    }
}

/// The rows as text.
pub(super) fn table(rows: &[Row], colour: bool) -> String {
    let mut table = TextTable::new(&HEADINGS);
    for row in rows {
        let [nic, rest @ ..] = texts(row);
        let tone = if row.dropped_packets > 0.0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        let [a, b, c, d, dropped, reason] = rest.map(|text| TextCell::new(&text, Tone::Plain));
        let dropped = TextCell::new(&dropped.text(), tone);
        table.row([nic.into(), a, b, c, d, dropped, reason]);
    }
    table.render(colour)
}

fn texts(row: &Row) -> [String; 7] {
    let Row {
        nic_id,
        sent_packets,
        sent_bits,
        received_packets,
        received_bits,
        dropped_packets,
        reason,
    } = row;
    [
        nic_id.clone(),
        short(*sent_bits),
        short(*sent_packets),
        short(*received_bits),
        short(*received_packets),
        short(*dropped_packets),
        reason.clone(),
    ]
}

/// Three digits and a prefix of the SI.
fn short(number: f64) -> String {
    let (mut number, mut prefixes) = (number, ["", "k", "M", "G", "T"].iter());
    let mut prefix = prefixes.next().copied().unwrap_or_default();
    // What would be rounded to four digits.
    while number >= 999.5 {
        let Some(next) = prefixes.next() else { break };
        number /= 1_000.0;
        prefix = next;
    }
    let digits = match number {
        _ if number == 0.0 => return "0".to_owned(),
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{prefix}")
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn row(nic: &str, sent: f64, dropped: f64) -> Row {
        Row {
            nic_id: nic.to_owned(),
            sent_bits: sent,
            sent_packets: sent / 1_000.0,
            dropped_packets: dropped,
            reason: if dropped > 0.0 { "spoofed-mac" } else { "" }.to_owned(),
            ..Row::default()
        }
    }

    fn drawn(screen: &Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(80, 5)).unwrap();
        let frame = terminal.draw(|frame| screen.draw(frame)).unwrap();
        let cells = frame.buffer.content.chunks(80);
        let line = |cells: &[ratatui::buffer::Cell]| {
            let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
            text.trim_end().to_owned()
        };
        cells.map(line).collect()
    }

    #[test]
    fn numbers_have_three_digits() {
        let all = [0.0, 0.5, 9.99, 12.34, 999.4, 999.6, 1.5e6, 2e9, 3e12, 4e15];
        let texts: Vec<_> = all.into_iter().map(short).collect();
        let wanted = "0 0.50 9.99 12.3 999 1.00k 1.50M 2.00G 3.00T 4000T";
        assert_eq!(texts.join(" "), wanted);
    }

    #[test]
    fn screen_shows_the_rows_from_where_it_is_scrolled_to() {
        let mut screen = Screen::new("host".to_owned(), false);
        assert_eq!(drawn(&screen)[0], "sgagent host: measuring ...");
        screen.show(vec![
            row("a", 5e6, 0.0),
            row("b", 1e3, 2.0),
            row("c", 0.0, 0.0),
        ]);
        let lines = drawn(&screen);
        assert_eq!(lines[0], "sgagent host: 3 NICs");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(words.join(" "), HEADINGS.join(" "));
        assert!(
            lines[2].starts_with("b ") && lines[2].ends_with("spoofed-mac"),
            "{lines:#?}"
        );
        assert!(
            lines[3].starts_with("a ") && lines[3].contains("5.00M"),
            "{lines:#?}"
        );
        assert!(lines[4].contains("order [d]") && lines[4].contains("q: quit"));
        screen.scroll(2);
        assert!(drawn(&screen)[2].starts_with("c "));
        screen.scroll(5);
        assert!(drawn(&screen)[2].starts_with("c "), "the last stays");
        screen.order(Order::Name);
        assert!(drawn(&screen)[2].starts_with("a "));
    }
}
