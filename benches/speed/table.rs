//! What was measured, and how it is shown.

use serde_json::json;

/// What the median should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// Nothing is promised; it is there to compare with.
    None,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    /// Lines of one group share a heading.
    pub group: &'static str,
    /// What was measured.
    pub name: String,
    /// `x` for a ratio, else a unit.
    pub unit: &'static str,
    /// One value for each round.
    pub rounds: Vec<f64>,
    /// What the median is held against.
    pub target: Target,
    /// Absolute numbers, for orientation.
    pub note: String,
}

/// The least, the median and the greatest of some numbers.
pub(crate) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    (sorted[0], median, sorted[sorted.len() - 1])
}

/// The median of some numbers.
pub(crate) fn median(values: &[f64]) -> f64 {
    spread(values).1
}

/// The quotients of numbers of the same round.
pub(crate) fn ratios(values: &[f64], bases: &[f64]) -> Vec<f64> {
    values.iter().zip(bases).map(|(a, b)| a / b).collect()
}

impl Line {
    /// Whether the target is met; none has nothing to meet.
    fn met(&self) -> Option<bool> {
        let median = median(&self.rounds);
        match self.target {
            Target::AtMost(limit) => Some(median <= limit),
            Target::AtLeast(limit) => Some(median >= limit),
            Target::None => None,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtMost(limit) => format!("<= {limit}"),
            Target::AtLeast(limit) => format!(">= {limit}"),
            Target::None => String::new(),
        }
    }
}

/// The table, as Markdown that is readable as it is.
pub(crate) fn print(lines: &[Line]) {
    let mut group = "";
    for line in lines {
        if line.group != group {
            group = line.group;
            println!(
                "\n{group}\n\n| {:<46} | {:>7} | {:>7} | {:>7} | {:<4} | {:<7} | {:<3} | absolute (medians)",
                "", "min", "median", "max", "unit", "target", "met"
            );
            println!(
                "|-{:-<46}-|-{:->7}:|-{:->7}:|-{:->7}:|-{:-<4}-|-{:-<7}-|-{:-<3}-|---",
                "", "", "", "", "", "", ""
            );
        }
        let (least, median, greatest) = spread(&line.rounds);
        let met = line.met().map_or("", |met| if met { "yes" } else { "NO" });
        println!(
            "| {:<46} | {least:>7.2} | {median:>7.2} | {greatest:>7.2} | {:<4} | {:<7} | {met:<3} | {}",
            line.name,
            line.unit,
            line.target_text(),
            line.note
        );
    }
}

/// A JSON object for each line.
pub(crate) fn print_json(lines: &[Line]) {
    for line in lines {
        let (least, median, greatest) = spread(&line.rounds);
        println!(
            "{}",
            json!({
                "group": line.group,
                "name": line.name,
                "unit": line.unit,
                "rounds": line.rounds,
                "min": least,
                "median": median,
                "max": greatest,
                "target": line.target_text(),
                "met": line.met(),
                "note": line.note,
            })
        );
    }
}
