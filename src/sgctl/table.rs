//! Tables for people.

use std::fmt::Write as _;

/// What a cell stands out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing.
    Plain,
    /// All is well.
    Good,
    /// Someone may want to look.
    Warn,
    /// Someone should look.
    Bad,
    /// A heading.
    Head,
}

impl Tone {
    /// The SGR sequence of ECMA-48 that begins it.
    fn begin(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Head => "\x1b[1m",
        }
    }
}

/// A text with its tone.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell. Control characters can't get from here to the terminal.
    pub(super) fn new(text: &str, tone: Tone) -> Self {
        let text = text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        Self { text, tone }
    }

    /// What is in it.
    pub(super) fn text(&self) -> String {
        self.text.clone()
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Writes it, without blanks around.
    pub(super) fn write(&self, out: &mut String, colour: bool) {
        if colour && self.tone != Tone::Plain && !self.text.is_empty() {
            let _ = write!(out, "{}{}\x1b[0m", self.tone.begin(), self.text);
        } else {
            out.push_str(&self.text);
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text.as_ref(), Tone::Plain)
    }
}

/// Rows under a heading, each column as wide as its widest cell.
#[derive(Debug, Clone)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
    columns: usize,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let head = headings
            .iter()
            .map(|text| Cell::new(text, Tone::Head))
            .collect();
        Self {
            rows: vec![head],
            columns: headings.len(),
        }
    }

    /// Two columns without headings.
    pub(super) fn pairs() -> Self {
        Self {
            rows: Vec::new(),
            columns: 2,
        }
    }

    /// Adds a row; it has a cell for each heading.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a line of a table of pairs, where there is something to say.
    pub(super) fn pair(&mut self, name: &str, value: impl Into<Cell>) {
        let value = value.into();
        if !value.text.is_empty() {
            self.rows.push(vec![Cell::new(name, Tone::Head), value]);
        }
    }

    /// The table as text, a line each row.
    pub(super) fn render(&self, colour: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(Cell::width).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                // Held back, so that no line ends in blanks.
                if !cell.text.is_empty() {
                    out.extend(std::iter::repeat_n(' ', gap));
                    cell.write(&mut out, colour);
                    gap = 0;
                }
                gap += width - cell.width() + if *width > 0 { 2 } else { 0 };
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "STATE", "REASON"]);
        table.row(["nic-1".into(), Cell::new("ACTIVE", Tone::Good), "".into()]);
        table.row(["n\n".into(), "".into(), "because".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_blanks() {
        let text = "ID     STATE   REASON\nnic-1  ACTIVE\nn\u{fffd}             because\n";
        assert_eq!(table().render(false), text);
    }

    #[test]
    fn colour_is_around_the_text_only() {
        let text = table().render(true);
        assert!(text.contains("nic-1  \x1b[32mACTIVE\x1b[0m\n"), "{text:?}");
    }
}
