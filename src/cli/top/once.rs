//! The screen as plain text, once.

use super::controls::Controls;
use super::model::Model;
use super::poll::Poll;
use super::view::{Place, Theme, View};
use crate::cli::failed::CommandError;
use crate::cli::output::print;
use crate::domain::Timestamp;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long to wait for the first answer.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for another answer after one came.
const NEXT_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// Asks twice, so that there are rates, and prints one screen in lines of that width.
pub(super) async fn print_once(
    mut poll: Poll,
    place: &Place,
    theme: Theme,
    interval: Duration,
    (width, deadline): (u16, Instant),
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut model = Model::default();

    take_answers(&mut poll, &mut model, started, deadline).await?;
    if model.answered_at.is_none() {
        return Err(CommandError::unavailable("no worker answers").into());
    }
    sleep_until(started + interval).await;
    let deadline = Instant::now() + FIRST_ANSWER_TIMEOUT;
    take_answers(&mut poll, &mut model, started, deadline).await?;
    model.record(started.elapsed());

    let view = View {
        model: &model,
        controls: &Controls::new(interval),
        place,
        now: started.elapsed(),
        clock: Timestamp::now(),
        theme,
    };
    print(&view.text(width))
}

/// Asks, and takes all answers that come in time.
async fn take_answers(
    poll: &mut Poll,
    model: &mut Model,
    started: Instant,
    deadline: Instant,
) -> anyhow::Result<()> {
    poll.ask().await?;

    let mut until = deadline.min(Instant::now() + FIRST_ANSWER_TIMEOUT);
    while let Ok(answer) = timeout_at(until, poll.next()).await {
        let answer = answer?;
        model.take(answer.sample, answer.question, started.elapsed());
        until = Instant::now() + NEXT_ANSWER_TIMEOUT;
    }
    Ok(())
}
