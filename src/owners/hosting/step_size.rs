//! How much one step of the projection stores, and how long a projection may stand still or hear
//! nothing. All follow what Postgres and the link manage: slow is not stuck.

use std::time::Duration;

/// How often the time that the projection may stand still is doubled, at most.
const DOUBLINGS_MAX: u32 = 6;

/// How long the bucket may send nothing. After that the projection checks that it missed nothing, and
/// that the connection that holds the lock still works.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the bucket may send nothing, at most.
const SILENCE_MAX: Duration = Duration::from_secs(32);

/// What a projection has learnt of Postgres and of the link.
pub(super) struct Pace {
    pub(super) size: StepSize,
    pub(super) silence: Silence,
}

impl Pace {
    /// At first a step stores up to `messages`.
    pub(super) fn new(messages: usize) -> Self {
        Self {
            size: StepSize::new(messages),
            silence: Silence::default(),
        }
    }
}

/// How long the projection waits for messages. Twice as long after each time that it began again in
/// vain: behind a slow link, a new beginning would only make them wait for each other. Half as long
/// after each step.
pub(super) struct Silence(Duration);

impl Default for Silence {
    fn default() -> Self {
        Self(SILENCE)
    }
}

impl Silence {
    pub(super) fn limit(&self) -> Duration {
        self.0
    }

    pub(super) fn begin_again(&mut self) {
        self.0 = SILENCE_MAX.min(self.0 * 2);
    }

    pub(super) fn end(&mut self) {
        self.0 = SILENCE.max(self.0 / 2);
    }
}

/// The number of messages in one step. After a step that took too long it is half as large, and it
/// grows again with each step that succeeds.
pub(super) struct StepSize {
    messages: usize,
    max: usize,
}

impl StepSize {
    pub(super) fn new(max: usize) -> Self {
        Self { messages: max, max }
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn grow(&mut self) {
        self.messages = self.messages.saturating_mul(2).min(self.max);
    }

    /// Halves the step that took too long, which may have been smaller than it could be.
    pub(super) fn shrink(&mut self, failed_messages: usize) {
        self.messages = (self.messages.min(failed_messages) / 2).max(1);
    }
}

/// The projectors whose connections this worker ended, one after the other, at the same cursor.
#[derive(Default)]
pub(super) struct Takeovers {
    cursor: u64,
    in_a_row: u32,
}

impl Takeovers {
    /// Returns how long the projection may stand still at `cursor`: `limit`, and twice as long after
    /// each connection that was ended there in vain.
    pub(super) fn patience(&self, limit: Duration, cursor: u64) -> Duration {
        let doublings = if cursor == self.cursor {
            self.in_a_row
        } else {
            0
        };

        limit.saturating_mul(1 << doublings.min(DOUBLINGS_MAX))
    }

    /// Records that the connection of a projector was ended, which stood still at `cursor`.
    pub(super) fn record(&mut self, cursor: u64) {
        if cursor != self.cursor {
            *self = Self {
                cursor,
                in_a_row: 0,
            };
        }
        self.in_a_row += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_halved_to_one_message_and_grows_again() {
        let mut size = StepSize::new(10);

        let sizes: Vec<usize> = (0..5)
            .map(|_| {
                size.shrink(size.messages());
                size.messages()
            })
            .collect();
        assert_eq!(sizes, [5, 2, 1, 1, 1]);

        for _ in 0..3 {
            size.grow();
        }
        size.shrink(6);
        assert_eq!(size.messages(), 3, "only six had come");

        for _ in 0..5 {
            size.grow();
        }
        assert_eq!(size.messages(), 10);
    }

    #[test]
    fn a_silent_bucket_is_waited_for_longer_each_time() {
        let mut silence = Silence::default();

        let limits = [(); 6].map(|()| {
            silence.begin_again();
            silence.limit().as_secs()
        });
        assert_eq!(limits, [4, 8, 16, 32, 32, 32]);

        silence.end();
        assert_eq!(silence.limit(), SILENCE_MAX / 2);
        for _ in 0..4 {
            silence.end();
        }
        assert_eq!(silence.limit(), SILENCE);
    }

    #[test]
    fn nobody_is_ended_twice_at_one_cursor_without_more_time() {
        let limit = Duration::from_secs(3);
        let mut takeovers = Takeovers::default();
        assert_eq!(takeovers.patience(limit, 7), limit);

        takeovers.record(7);
        assert_eq!(takeovers.patience(limit, 7), limit * 2);
        takeovers.record(7);
        assert_eq!(takeovers.patience(limit, 7), limit * 4);

        assert_eq!(takeovers.patience(limit, 8), limit, "it has moved");
        takeovers.record(8);
        assert_eq!(takeovers.patience(limit, 8), limit * 2);
    }
}
