//! Text in aligned columns.

use crate::cli::out::{Paint, Tone};

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// Without a tone.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: None }
    }

    /// With one.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Some(tone) }
    }
}

/// Lays out rows under their headings, each line after `indent` spaces and none with spaces at its
/// end.
pub fn table(indent: usize, columns: &[(&str, Align)], rows: &[Vec<Cell>], paint: Paint) -> String {
    let width_of = |text: &str| text.chars().count();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, (head, _))| {
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| width_of(&cell.text));
            cells.chain([width_of(head)]).max().unwrap_or_default()
        })
        .collect();
    let heads: Vec<Cell> = columns.iter().map(|(head, _)| Cell::toned(Tone::Faint, *head)).collect();
    let mut text = String::new();
    for row in [&heads].into_iter().chain(rows) {
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |i| i + 1);
        text.push_str(&" ".repeat(indent));
        for (i, ((cell, width), (_, align))) in row.iter().take(last).zip(&widths).zip(columns).enumerate() {
            let gap = " ".repeat(width.saturating_sub(width_of(&cell.text)));
            let body = cell.tone.map_or_else(|| cell.text.clone(), |tone| paint.tone(tone, &cell.text));
            let (before, after) =
                if *align == Align::Right { (gap, String::new()) } else { (String::new(), gap) };
            text.push_str(if i == 0 { "" } else { "  " });
            text.push_str(&before);
            text.push_str(&body);
            if i + 1 < last {
                text.push_str(&after);
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_whatever_the_colours() {
        let columns = [("NAME", Align::Left), ("N", Align::Right), ("NOTE", Align::Left)];
        let rows = [
            vec![Cell::toned(Tone::Bad, "é"), Cell::plain("1"), Cell::plain("x")],
            vec![Cell::plain("longer"), Cell::plain("123"), Cell::plain("")],
        ];
        let text = table(2, &columns, &rows, Paint::PLAIN);
        assert_eq!(text, "  NAME      N  NOTE\n  é         1  x\n  longer  123\n");
        let coloured = table(2, &columns, &rows, Paint::COLOUR);
        let mut plain = String::new();
        for (i, part) in coloured.split("\x1b[").enumerate() {
            plain.push_str(if i == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, text);
        assert_ne!(coloured, text);
    }
}
