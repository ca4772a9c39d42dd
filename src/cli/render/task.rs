//! Progress of background work.

use crate::array::{TaskKind, TaskReport};
use crate::units::{format_duration, format_rate, format_size};
use std::time::Duration;

const BAR_CELLS: u32 = 24;

/// `[=========>   ]  42.5%  181M/s  1m 10s left  slot 3`
pub fn task_line(task: &TaskReport) -> String {
    let kind = match task.kind {
        TaskKind::Rebuild => "rebuild",
        TaskKind::Scrub => "scrub",
    };
    format!("{kind} {} {}", bar(task.percent), progress_text(task))
}

/// The same without name and bar.
pub fn progress_text(task: &TaskReport) -> String {
    let slots: Vec<_> = task.slots.iter().map(ToString::to_string).collect();
    let of = match slots.as_slice() {
        [] => String::new(),
        [one] => format!("  slot {one}"),
        many => format!("  slots {}", many.join(", ")),
    };
    let pace = if task.paused {
        "  paused".to_owned()
    } else {
        let left = task
            .eta_s
            .map_or_else(String::new, |s| format!("  {} left", format_duration(Duration::from_secs(s))));
        format!("  {}{left}", format_rate(task.rate_bytes_per_s))
    };
    let ceiling = match task.max_rate_bytes_per_s {
        Some(rate) if rate > 0 => format!("  (at most {})", format_rate(rate)),
        _ => String::new(),
    };
    let amount = format!("{} of {}", format_size(task.done_bytes), format_size(task.total_bytes));
    // Cut, not rounded: 100% means done.
    let percent = (task.percent.clamp(0.0, 100.0) * 10.0).floor() / 10.0;
    format!("{percent:.1}%  {amount}{pace}{ceiling}{of}")
}

fn bar(percent: f64) -> String {
    let filled =
        (0..BAR_CELLS).filter(|cell| f64::from(cell + 1) * 100.0 <= percent * f64::from(BAR_CELLS)).count();
    let mut bar = "=".repeat(filled);
    if filled < BAR_CELLS as usize {
        bar.push('>');
    }
    format!("[{bar:<width$}]", width = BAR_CELLS as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_only_when_all_is_done() {
        assert_eq!(bar(0.0), format!("[>{}]", " ".repeat(23)));
        assert_eq!(bar(50.0), format!("[{}>{}]", "=".repeat(12), " ".repeat(11)));
        assert_eq!(bar(99.9), format!("[{}>]", "=".repeat(23)));
        assert_eq!(bar(100.0), format!("[{}]", "=".repeat(24)));
        assert_eq!(bar(f64::NAN).len(), 26);
    }
}
