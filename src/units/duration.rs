//! Durations as people write them: `45s`, `30m`, `12h`, `30d`, `4w`.

use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86400), ('h', 3600), ('m', 60), ('s', 1)];

/// Parses a number with its unit.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let bad = || {
        Error::new(ErrorKind::InvalidInput, format!("'{text}' is not a duration"))
            .hint("write a number and s, m, h, d or w, for example 30d")
    };
    let text = text.trim();
    let (unit, seconds) = UNITS.iter().find(|(unit, _)| text.ends_with(*unit)).ok_or_else(bad)?;
    let number = text.strip_suffix(*unit).unwrap_or_default().trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(*seconds).map(Duration::from_secs).ok_or_else(bad)
}

/// Renders whole seconds for people, in at most two units: `45s`, `1m 10s`, `2h 5m`, `3d 4h`, `30d`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: char, small: u64, rest: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit} {small}{rest}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3600..86400 => two(seconds / 3600, 'h', seconds / 60 % 60, 'm'),
        _ => two(seconds / 86400, 'd', seconds / 3600 % 24, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in
            [("45s", 45), ("30m", 1800), ("12h", 43200), ("30d", 2_592_000), (" 4 w ", 2_419_200)]
        {
            assert_eq!(parse_duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "d", "30", "-1d", "1.5d", "1d2h", "99999999999999999d", "30D", "é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_short() {
        for (s, text) in
            [(0, "0s"), (60, "1m"), (70, "1m 10s"), (7500, "2h 5m"), (273_600, "3d 4h"), (86400, "1d")]
        {
            assert_eq!(format_duration(Duration::from_secs(s)), text);
        }
    }
}
