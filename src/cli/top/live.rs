//! The loop of the live screen: it waits for keys, answers and times, and draws.

use super::controls::{Controls, Shown, Wish};
use super::model::{Model, Subject};
use super::poll::Poll;
use super::terminal::FullScreen;
use super::view::{Place, Theme, View};
use crate::domain::Timestamp;
use crate::shutdown::{Hangup, shutdown_signal};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long after a question the screen is drawn: then most answers are there.
const ANSWERS_TIME: Duration = Duration::from_millis(150);
/// The longest time for which the screen stays the same, because there are ages on it.
const DRAW_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How often the connection is looked at while it is lost.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// The live screen.
pub(super) struct Live {
    poll: Poll,
    place: Place,
    theme: Theme,
    model: Model,
    controls: Controls,
    shown: Shown,
    started: Instant,
    ask_at: Instant,
    draw_at: Instant,
}

impl Live {
    /// Creates a screen on which nothing is yet.
    pub fn new(poll: Poll, place: Place, theme: Theme, interval: Duration) -> Self {
        let now = Instant::now();

        Self {
            poll,
            place,
            theme,
            model: Model::default(),
            controls: Controls::new(interval),
            shown: Shown::default(),
            started: now,
            ask_at: now,
            draw_at: now,
        }
    }

    /// Shows the screen until a key or a signal ends it.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let stop = shutdown_signal()?;
        let mut hangup = Hangup::listen()?;
        let mut screen = FullScreen::open()?;
        let mut keys = EventStream::new();
        tokio::pin!(stop);

        loop {
            tokio::select! {
                _ = &mut stop => return Ok(()),
                () = hangup.received() => return Ok(()),
                event = keys.next() => match event {
                    Some(event) => match self.take_event(&event?) {
                        Some(Wish::Quit) => return Ok(()),
                        Some(Wish::Suspend) => screen.suspend()?,
                        _ => {}
                    },
                    None => return Ok(()),
                },
                answer = self.poll.next() => {
                    let answer = answer?;
                    let at = self.started.elapsed();
                    self.model.take(answer.sample, answer.question, at);
                    self.draw_by(Instant::now() + ANSWERS_TIME);
                }
                () = sleep_until(self.ask_at) => self.ask().await?,
                () = sleep_until(self.draw_at) => self.draw(&mut screen)?,
            }
        }
    }

    fn take_event(&mut self, event: &Event) -> Option<Wish> {
        self.draw_by(Instant::now());
        let key = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => *key,
            _ => return None,
        };

        let was_paused = self.controls.is_paused;
        let wish = self.controls.press(key, &self.shown);
        if wish == Wish::Ask {
            self.ask_at = Instant::now();
        }
        if was_paused && !self.controls.is_paused {
            self.model.excuse(self.started.elapsed());
        }
        Some(wish)
    }

    /// Asks the workers, if that is possible and wanted, and decides when to ask again.
    async fn ask(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let at = now - self.started;
        self.draw_by(now + ANSWERS_TIME);

        if !self.poll.is_connected() {
            self.model.lose(at);
            self.ask_at = now + RECONNECT_INTERVAL;
            return Ok(());
        }
        self.model.connect();
        self.ask_at = now + self.controls.interval;
        if !self.controls.is_paused {
            self.model.ask(at);
            self.poll.ask().await?;
        }
        Ok(())
    }

    fn draw(&mut self, screen: &mut FullScreen) -> anyhow::Result<()> {
        if !self.model.has(&self.controls.selected) {
            self.controls.selected = Subject::All;
        }
        self.model.record(self.started.elapsed());
        let view = View {
            model: &self.model,
            controls: &self.controls,
            place: &self.place,
            now: self.started.elapsed(),
            clock: Timestamp::now(),
            theme: self.theme,
        };

        if let Some(shown) = screen.draw(|buffer| view.draw(buffer))? {
            self.shown = shown;
        }
        self.draw_at = Instant::now() + DRAW_INTERVAL_MAX;
        Ok(())
    }

    /// Draws at that time, if not earlier.
    fn draw_by(&mut self, at: Instant) {
        self.draw_at = self.draw_at.min(at);
    }
}
