//! What the person at the screen has chosen, and what keys change.

use super::columns::ColumnId;
use super::model::Subject;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::Duration;

/// The times between two questions that `+` and `-` choose from, in milliseconds.
const INTERVALS_MS: [u64; 9] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
/// How many rows a page is.
const PAGE_ROWS: isize = 10;
/// The longest filter, in characters.
const FILTER_CHARS_MAX: usize = 60;

/// Which part of the screen is large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    /// Shards, workers, and below them what is selected.
    #[default]
    Overview,
    /// All workers, with as many columns as there is room for.
    Workers,
    /// What is selected, in full.
    Details,
}

/// The order of a table. Without a column it is that of the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub column: Option<ColumnId>,
    pub is_reversed: bool,
}

/// What is chosen.
#[derive(Clone, Debug)]
pub(super) struct Controls {
    pub page: Page,
    pub selected: Subject,
    pub shards: Order,
    pub workers: Order,
    pub filter: String,
    pub is_typing: bool,
    pub is_paused: bool,
    pub shows_help: bool,
    pub interval: Duration,
}

/// What the person sees, as far as keys depend on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// What can be selected, from above.
    pub rows: Vec<Subject>,
    pub shard_columns: Vec<ColumnId>,
    pub worker_columns: Vec<ColumnId>,
}

/// What a key asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Draw the screen again.
    Draw,
    /// Ask the workers at once, and at the new interval from then on.
    Ask,
    /// Stop the program until the shell continues it.
    Suspend,
    Quit,
}

impl Controls {
    /// What is chosen at the start.
    pub fn new(interval: Duration) -> Self {
        Self {
            page: Page::default(),
            selected: Subject::All,
            shards: Order::default(),
            workers: Order::default(),
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            shows_help: false,
            interval,
        }
    }

    /// Takes a key. `shown` is what the person sees.
    pub fn press(&mut self, key: KeyEvent, shown: &Shown) -> Wish {
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if has_control => return Wish::Quit,
            KeyCode::Char('z') if has_control => return Wish::Suspend,
            _ if has_control => return Wish::Draw,
            _ if self.is_typing => self.type_filter(key.code),
            _ if self.shows_help => return self.close_help(key.code),
            _ => return self.press_plain(key.code, shown),
        }

        Wish::Draw
    }

    fn press_plain(&mut self, key: KeyCode, shown: &Shown) -> Wish {
        match key {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Wish::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.select(shown, -1),
            KeyCode::Down | KeyCode::Char('j') => self.select(shown, 1),
            KeyCode::PageUp => self.select(shown, -PAGE_ROWS),
            KeyCode::PageDown => self.select(shown, PAGE_ROWS),
            KeyCode::Home => self.select(shown, isize::MIN),
            KeyCode::End => self.select(shown, isize::MAX),
            KeyCode::Tab | KeyCode::Right => self.page = self.page.next(),
            KeyCode::BackTab | KeyCode::Left => self.page = self.page.next().next(),
            KeyCode::Char('1') => self.page = Page::Overview,
            KeyCode::Char('2') => self.page = Page::Workers,
            KeyCode::Char('3') | KeyCode::Enter => self.page = Page::Details,
            KeyCode::Char('s') => self.sort_by_next(shown),
            KeyCode::Char('r') => self.reverse(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                return Wish::Ask;
            }
            KeyCode::Char('+' | '=') => return self.change_interval(true),
            KeyCode::Char('-') => return self.change_interval(false),
            _ => {}
        }

        Wish::Draw
    }

    fn close_help(&mut self, key: KeyCode) -> Wish {
        self.shows_help = false;

        if key == KeyCode::Char('q') {
            Wish::Quit
        } else {
            Wish::Draw
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(c);
            }
            _ => {}
        }
    }

    /// Selects what stands so many rows further down.
    fn select(&mut self, shown: &Shown, rows: isize) {
        let last = shown.rows.len().saturating_sub(1);
        let place = shown.rows.iter().position(|row| *row == self.selected);

        // What is not among the rows is above them.
        let next = match place {
            None if rows > 0 => 0,
            None => last,
            Some(place) => place.saturating_add_signed(rows).min(last),
        };
        if let Some(row) = shown.rows.get(next) {
            self.selected = row.clone();
        }
    }

    /// Returns whether keys for the order mean the table of shards.
    fn is_among_shards(&self) -> bool {
        self.page == Page::Overview && matches!(self.selected, Subject::Shard(_))
    }

    fn sort_by_next(&mut self, shown: &Shown) {
        let is_among_shards = self.is_among_shards();
        let (order, columns) = match is_among_shards {
            true => (&mut self.shards, &shown.shard_columns),
            false => (&mut self.workers, &shown.worker_columns),
        };

        let place = columns
            .iter()
            .position(|column| Some(*column) == order.column);
        let next = place.map_or(0, |place| place + 1);
        let column = columns.get(next).copied();
        *order = Order {
            column,
            // Of what is counted, the highest is what one looks for.
            is_reversed: column.is_some_and(ColumnId::is_number),
        };
    }

    fn reverse(&mut self) {
        let order = match self.is_among_shards() {
            true => &mut self.shards,
            false => &mut self.workers,
        };

        order.is_reversed = !order.is_reversed;
    }

    fn change_interval(&mut self, is_longer: bool) -> Wish {
        let present = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let next = match is_longer {
            true => INTERVALS_MS.into_iter().find(|ms| *ms > present),
            false => INTERVALS_MS.into_iter().rev().find(|ms| *ms < present),
        };

        if let Some(next) = next {
            self.interval = Duration::from_millis(next);
        }
        Wish::Ask
    }
}

impl Page {
    /// All pages, with their names.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Overview, "overview"),
        (Self::Workers, "workers"),
        (Self::Details, "details"),
    ];

    fn next(self) -> Self {
        match self {
            Self::Overview => Self::Workers,
            Self::Workers => Self::Details,
            Self::Details => Self::Overview,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(controls: &mut Controls, shown: &Shown, keys: &str) -> Wish {
        let mut wish = Wish::Draw;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            wish = controls.press(KeyEvent::new(code, KeyModifiers::NONE), shown);
        }

        wish
    }

    fn shown() -> Shown {
        let shard = |name: &str| Subject::Shard(name.to_owned());
        Shown {
            rows: vec![Subject::All, shard("a"), shard("b")],
            shard_columns: vec![ColumnId::Shard, ColumnId::Requests],
            worker_columns: vec![ColumnId::Worker, ColumnId::Lag],
        }
    }

    fn controls() -> Controls {
        Controls::new(Duration::from_secs(1))
    }

    #[test]
    fn the_selection_stays_within_the_rows() {
        let mut controls = controls();
        for (keys, row) in [("k", 0), ("j", 1), ("jj", 2), ("k", 1)] {
            press(&mut controls, &shown(), keys);

            assert_eq!(controls.selected, shown().rows[row]);
        }

        controls.selected = Subject::Shard("gone".to_owned());
        press(&mut controls, &shown(), "j");
        assert_eq!(controls.selected, Subject::All);
        press(&mut controls, &Shown::default(), "jk");
        assert_eq!(controls.selected, Subject::All);
    }

    #[test]
    fn tables_are_sorted_by_the_columns_that_are_seen() {
        let mut controls = controls();
        let order = |column, is_reversed| Order {
            column,
            is_reversed,
        };

        press(&mut controls, &shown(), "ss");
        assert_eq!(controls.workers, order(Some(ColumnId::Lag), true));
        press(&mut controls, &shown(), "r");
        assert_eq!(controls.workers, order(Some(ColumnId::Lag), false));
        press(&mut controls, &shown(), "s");
        assert_eq!(controls.workers, order(None, false));
        press(&mut controls, &shown(), "js");
        assert_eq!(controls.shards, order(Some(ColumnId::Shard), false));
    }

    #[test]
    fn a_filter_is_typed_and_cleared() {
        let mut controls = controls();

        assert_eq!(press(&mut controls, &shown(), "/qs\u{8}\n"), Wish::Draw);
        assert_eq!((controls.filter.as_str(), controls.is_typing), ("q", false));
        assert_eq!(press(&mut controls, &shown(), "\u{1b}"), Wish::Draw);
        assert_eq!(controls.filter, "");
        assert_eq!(press(&mut controls, &shown(), "\u{1b}"), Wish::Quit);
    }

    #[test]
    fn the_interval_has_limits() {
        let mut controls = controls();
        for (keys, ms) in [
            ("+", 2_000),
            ("--", 500),
            ("-----", 100),
            ("++++++++++", 60_000),
        ] {
            assert_eq!(press(&mut controls, &shown(), keys), Wish::Ask);
            assert_eq!(controls.interval, Duration::from_millis(ms));
        }
    }

    #[test]
    fn keys_change_the_page_and_close_the_help() {
        let mut controls = controls();
        for (keys, page) in [
            ("\t", Page::Workers),
            ("3", Page::Details),
            ("\t", Page::Overview),
            ("?2", Page::Overview),
            ("2\n", Page::Details),
        ] {
            press(&mut controls, &shown(), keys);

            assert_eq!(controls.page, page);
            assert!(!controls.shows_help);
        }

        assert_eq!(press(&mut controls, &shown(), "?q"), Wish::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(controls.press(control_c, &shown()), Wish::Quit);
    }
}
