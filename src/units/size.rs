//! Sizes as people write them: `64K`, `1G`, `4096`; powers of two.

use crate::error::{Error, ErrorKind, Result};

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Parses `4096`, `64K`, `1.5G`, `2T` (also `KiB`, `k`, `MB`: always powers of two) into bytes.
pub fn parse_size(text: &str) -> Result<u64> {
    let bad = || {
        Error::new(ErrorKind::InvalidInput, format!("'{text}' is not a size"))
            .hint("write a number and K, M, G or T (powers of two), for example 64K or 1.5G")
    };
    let t = text.trim();
    let upper = t.to_ascii_uppercase();
    let body = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (number, unit) = match body.chars().last().and_then(|c| UNITS.iter().find(|(u, _)| *u == c)) {
        Some((_, unit)) => (&body[..body.len() - 1], *unit),
        None => (body, 1),
    };
    let number = number.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 6 || (number.contains('.') && fraction.is_empty()) {
        return Err(bad());
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let bytes = whole.checked_mul(unit).ok_or_else(bad)?;
    if fraction.is_empty() {
        return Ok(bytes);
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let part = fraction.parse::<u64>().map_err(|_| bad())?;
    let part = u128::from(part) * u128::from(unit);
    if part % scale != 0 && unit == 1 {
        return Err(bad());
    }
    let part = u64::try_from(part / scale).map_err(|_| bad())?;
    bytes.checked_add(part).ok_or_else(bad)
}

/// Renders bytes for people: `64K`, `1.5G`, `512`; at most two decimals, trailing zeros dropped.
pub fn format_size(bytes: u64) -> String {
    for (letter, unit) in UNITS {
        if bytes >= unit {
            let hundredths = (u128::from(bytes) * 100 + u128::from(unit) / 2) / u128::from(unit);
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            return match rest {
                0 => format!("{whole}{letter}"),
                r if r % 10 == 0 => format!("{whole}.{}{letter}", r / 10),
                r => format!("{whole}.{r:02}{letter}"),
            };
        }
    }
    format!("{bytes}")
}

/// Renders a rate for people: `181M/s`.
pub fn format_rate(bytes_per_s: u64) -> String {
    format!("{}/s", format_size(bytes_per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            ("64k", 65536),
            ("64KiB", 65536),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
            (" 3 M ", 3 << 20),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "K", "-1", "1.G", "1.2.3", "12x", "99999999999T", "0x10", "1e3", "é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn printed_sizes_are_short() {
        assert_eq!(format_size(512), "512");
        assert_eq!(format_size(3 << 29), "1.5G");
        assert_eq!(format_size((1 << 30) + (1 << 24)), "1.02G");
        assert_eq!(format_rate(200 << 20), "200M/s");
    }
}
