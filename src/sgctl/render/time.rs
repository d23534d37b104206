//! Moments, as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment and how long ago that is.
pub(super) fn moment(ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ago = now
        .unwrap_or_default()
        .saturating_sub(Duration::from_millis(ms));
    format!("{}, {} ago", date(ms / 1000), span(ago.as_secs()))
}

fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The time of day of a moment.
pub(super) fn clock(ms: u64) -> String {
    let (hour, minute, second) = (ms / 3_600_000 % 24, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:03}", ms % 1000)
}

/// Seconds since 1970 as RFC 3339 writes them. Days to a date: Howard Hinnant's
/// `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
pub(super) fn date(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(date(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3_600 * 26 + 61), "1 d 2 h");
    }

    #[test]
    fn the_time_of_day_is_that_of_utc() {
        assert_eq!(clock(1_700_000_000_123), "22:13:20.123");
    }
}
