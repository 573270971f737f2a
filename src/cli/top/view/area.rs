//! Parts of the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Writes lines from above, and returns how many there was room for.
pub(super) fn put(lines: &[Line<'_>], area: Rect, buffer: &mut Buffer) -> u16 {
    let area = area.intersection(buffer.area);
    for (row, line) in area.rows().zip(lines) {
        buffer.set_line(row.x, row.y, line, row.width);
    }

    area.height
        .min(u16::try_from(lines.len()).unwrap_or(u16::MAX))
}

/// Returns what is below so many lines of an area.
pub(super) fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);

    Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    }
}

/// Returns the first lines of an area.
pub(super) fn top(area: Rect, lines: u16) -> Rect {
    Rect {
        height: lines.min(area.height),
        ..area
    }
}

/// Splits an area into a left part of that width and the rest, with a gap between them.
pub(super) fn split(area: Rect, width: u16, gap: u16) -> (Rect, Rect) {
    let left = width.min(area.width);
    let gap = gap.min(area.width - left);
    let rest = Rect {
        x: area.x + left + gap,
        width: area.width - left - gap,
        ..area
    };

    (
        Rect {
            width: left,
            ..area
        },
        rest,
    )
}
