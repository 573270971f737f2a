//! Takes up changed settings without a gap: a worker with them starts beside the one that serves,
//! and takes over once it is ready. So changed settings are checked as at any start, all of them
//! count, and a mistake in them leaves the worker that serves as it is.

use super::settings_status::SettingsStatus;
use super::settings_watch::SettingsWatch;
use crate::config::{LogFormat, Reading, Settings};
use crate::telemetry::{self, error_chain};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The pause before another attempt with settings that cannot be used. What they need may have
/// changed meanwhile, such as a password on a server.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// The pause before another look whether those that leave have left.
const LEAVE_PAUSE: Duration = Duration::from_millis(100);

/// What a worker of the succession gets.
pub struct Turn {
    /// Its settings.
    pub settings: Settings,
    /// Whether no worker serves yet.
    pub is_first: bool,
    /// Whether the settings of the process are in force.
    pub status: SettingsStatus,
    /// Cancelled when the worker has to stop.
    pub stop: CancellationToken,
    /// Used once, when the worker is ready.
    pub ready: oneshot::Sender<()>,
}

/// A worker that was started.
struct Worker {
    reading: Reading,
    stop: CancellationToken,
    ready: Option<oneshot::Receiver<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What happens to a worker.
enum Step {
    Ready,
    Ended(anyhow::Result<()>),
}

/// The workers of a process, of which one serves.
pub struct Succession<B> {
    watch: SettingsWatch,
    /// Runs a worker until it is stopped.
    begin: B,
    status: SettingsStatus,
    serving: Option<Worker>,
    next: Option<Worker>,
    /// Those that finish their last requests.
    leaving: JoinSet<anyhow::Result<()>>,
    /// The settings with which to start a worker later, and when.
    later: Option<(Reading, Instant)>,
    /// The format that the log has since the start of the process.
    log_format: LogFormat,
}

impl<B, R> Succession<B>
where
    B: Fn(Turn) -> R,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    /// Starts a worker with these settings. `begin` runs each worker until it is stopped.
    pub fn new(first: Reading, watch: SettingsWatch, begin: B) -> Self {
        let mut this = Self {
            log_format: first.settings.log.format,
            watch,
            begin,
            status: SettingsStatus::default(),
            serving: None,
            next: None,
            leaving: JoinSet::new(),
            later: None,
        };
        this.start(first);

        this
    }

    /// Runs workers until `shutdown` ends with the name of a signal, then stops them in order.
    ///
    /// # Errors
    /// The worker that serves ended by itself, the first one could not start, or the last one could
    /// not stop in order.
    pub async fn run(mut self, shutdown: impl Future<Output = &'static str>) -> anyhow::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);

        loop {
            let later = self.later.as_ref().map(|(_, at)| *at);
            tokio::select! {
                signal = &mut shutdown => {
                    info!("received {signal}, stopping");
                    return self.stop(Ok(())).await;
                }
                step = next_step(&mut self.serving) => if let Step::Ended(ended) = step {
                    self.serving = None;
                    return self.stop(ended).await;
                },
                step = next_step(&mut self.next) => match step {
                    Step::Ready => self.take_over(),
                    Step::Ended(ended) => {
                        let failed = self.next.take();
                        match (&self.serving, failed, ended) {
                            (Some(_), Some(failed), Err(error)) => {
                                self.refuse(failed.reading, &error_chain(&error));
                            }
                            (_, _, ended) => return self.stop(ended).await,
                        }
                    }
                },
                Some(left) = self.leaving.join_next() => report_leave(flatten(left)),
                () = until(later) => if let Some((reading, _)) = self.later.take() {
                    self.start(reading);
                },
                found = self.watch.next() => self.consider(found),
            }
        }
    }

    /// Compares what was read with the settings in force, and starts a worker if they differ.
    fn consider(&mut self, found: Result<Reading, String>) {
        let is_starting = |reading: &Reading| {
            self.next
                .as_ref()
                .is_some_and(|next| next.reading == *reading)
        };
        if found.as_ref().is_ok_and(is_starting) {
            return;
        }

        // Whatever was wanted before is not wanted any more.
        self.later = None;
        if let Some(outdated) = self.next.take() {
            self.leave(outdated);
        }

        let checked = found.and_then(|reading| {
            let filter = telemetry::check_filter(&reading.settings.log.filter);
            filter.map_err(|error| error.to_string())?;
            Ok(reading)
        });
        match checked {
            Ok(reading) => self.change_to(reading),
            Err(why) => self.report_refusal(&why),
        }
    }

    fn change_to(&mut self, reading: Reading) {
        let Some(serving) = &mut self.serving else {
            return self.start(reading);
        };
        if reading == serving.reading {
            self.status.as_before();
            info!("the settings are those in force");
            return;
        }

        info!(
            settings = serving.reading.differences(&reading),
            "settings have changed"
        );
        if reading.settings.log.format != self.log_format {
            warn!("log.format has changed, and needs a restart");
        }

        if reading.is_same_but_for_the_log(&serving.reading) {
            serving.reading = reading;
            self.use_log_filter();
            self.report_reload();
        } else {
            self.status.starting();
            self.start(reading);
        }
    }

    /// Starts a worker with these settings, once those that leave have left. So however often the
    /// settings change, there are two workers at most.
    fn start(&mut self, reading: Reading) {
        if !self.leaving.is_empty() {
            self.later = Some((reading, Instant::now() + LEAVE_PAUSE));
            return;
        }

        let (ready, is_ready) = oneshot::channel();
        let stop = CancellationToken::new();
        let is_first = self.serving.is_none();

        let worker = (self.begin)(Turn {
            settings: reading.settings.clone(),
            is_first,
            status: self.status.clone(),
            stop: stop.clone(),
            ready,
        });
        self.next = Some(Worker {
            reading,
            stop,
            ready: Some(is_ready),
            task: tokio::spawn(worker),
        });
    }

    /// Lets the next worker serve, and stops the one that served.
    fn take_over(&mut self) {
        let former = std::mem::replace(&mut self.serving, self.next.take());

        self.use_log_filter();
        if let Some(former) = former {
            self.report_reload();
            self.leave(former);
        }
    }

    /// Stops a worker, which finishes what it has taken.
    fn leave(&mut self, worker: Worker) {
        self.leaving.spawn(worker.stop());
    }

    fn use_log_filter(&self) {
        let filter = self
            .serving
            .as_ref()
            .map(|worker| &worker.reading.settings.log.filter);
        if let Some(Err(error)) = filter.map(|filter| telemetry::set_filter(filter)) {
            warn!(%error, "the former filter of the log stays in force");
        }
    }

    fn report_reload(&self) {
        self.status.reloaded();
        info!("the changed settings are in force");
    }

    /// Keeps the settings in force, and tries the changed ones again later.
    fn refuse(&mut self, reading: Reading, why: &str) {
        if !self.status.is_refused_because(why) {
            self.report_refusal(why);
        }
        self.later = Some((reading, Instant::now() + RETRY_PAUSE));
    }

    fn report_refusal(&self, why: &str) {
        self.status.refused(why);
        error!("the settings cannot be used, the former ones stay in force: {why}");
    }

    /// Stops all workers. Returns how it `ended`, or else how those that served have stopped.
    async fn stop(mut self, ended: anyhow::Result<()>) -> anyhow::Result<()> {
        let serves = self.serving.is_some();
        let serving = stop_one(self.serving);
        let (served, next) = tokio::join!(serving, stop_one(self.next));
        let mut result = ended.and(served);
        if !serves {
            result = result.and(next);
        }

        while let Some(left) = self.leaving.join_next().await {
            result = result.and(flatten(left));
        }
        result
    }
}

async fn stop_one(worker: Option<Worker>) -> anyhow::Result<()> {
    match worker {
        Some(worker) => worker.stop().await,
        None => Ok(()),
    }
}

fn report_leave(left: anyhow::Result<()>) {
    if let Err(error) = left {
        warn!(
            error = error_chain(&error),
            "a worker with former settings did not stop in order"
        );
    }
}

impl Worker {
    /// Waits for the next thing that happens to the worker. Nothing is lost if the wait is given up.
    async fn next_step(&mut self) -> Step {
        if let Some(ready) = &mut self.ready {
            let is_ready = ready.await.is_ok();
            self.ready = None;
            if is_ready {
                return Step::Ready;
            }
        }

        Step::Ended(flatten((&mut self.task).await))
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        flatten(self.task.await)
    }
}

/// Waits for what happens to the worker; for ever if there is none.
async fn next_step(worker: &mut Option<Worker>) -> Step {
    match worker {
        Some(worker) => worker.next_step().await,
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever if there is no moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The text of a panic stays out of the log, because it could hold a caller's value.
fn flatten(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|_| Err(anyhow::anyhow!("the worker panicked")))
}
