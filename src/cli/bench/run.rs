//! A run: rounds of the load, with the raw figures in between.

use super::drive::{Round, Watch, Work, drive};
use super::load::Load;
use super::outcome::RawFigures;
use super::processor::{Processes, ProcessorTimes};
#[cfg(feature = "dev")]
use super::raw::{Kind, Raw, RawWork};
use super::schedule::Schedule;
use super::tally::Tally;
use crate::cli::progress::Progress;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the progress is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long one raw figure is measured in each round: a quarter of the load's time, within these.
#[cfg(feature = "dev")]
const RAW_MIN: Duration = Duration::from_millis(200);
#[cfg(feature = "dev")]
const RAW_MAX: Duration = Duration::from_secs(2);

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub callers: usize,
    pub rate_per_s: Option<f64>,
    pub duration: Option<Duration>,
    pub requests: Option<u64>,
    pub warm_up: Duration,
    pub rounds: usize,
}

/// What a run measures.
pub(super) struct Run {
    pub plan: Plan,
    pub load: Arc<Load>,
    #[cfg(feature = "dev")]
    pub raw: Option<Arc<Raw>>,
    pub processes: Processes,
    pub stop: Arc<AtomicBool>,
}

/// What a run has measured.
#[derive(Default)]
pub(super) struct Measured {
    pub tally: Tally,
    pub took: Duration,
    pub raw: RawFigures,
    pub processor: ProcessorTimes,
}

impl Plan {
    /// The part of one round, from 0.
    fn round(&self, number: usize) -> Schedule {
        let rounds = self.rounds as u64;
        let requests = self.requests.map(|all| {
            let one_more = u64::from((number as u64) < all % rounds);
            all / rounds + one_more
        });
        let length = self.duration.map(|all| all / self.rounds as u32);

        Schedule::new(self.rate_per_s, length, requests)
    }

    #[cfg(feature = "dev")]
    fn raw_length(&self) -> Duration {
        let round = self.duration.unwrap_or(Duration::ZERO) / self.rounds as u32;

        (round / 4).clamp(RAW_MIN, RAW_MAX)
    }
}

impl Run {
    /// Warms up, and measures.
    pub async fn measure(&self) -> Measured {
        let warm_up = Schedule::new(self.plan.rate_per_s, Some(self.plan.warm_up), None);
        self.drive(&self.load, warm_up, 0, &Arc::default(), &self.watch())
            .await;

        let mut measured = Measured::default();
        let tally = Arc::default();
        let watch = self.watch();
        let mut progress = Progress::new(if self.plan.requests.is_some() {
            "requests"
        } else {
            "seconds"
        });
        for number in 0..self.plan.rounds {
            let before = self.processes.sample();
            let schedule = self.plan.round(number);
            let seed = 1 + number as u64;
            let round = self.drive(&self.load, schedule, seed, &tally, &watch);
            measured.took += self
                .watched(round, &watch, measured.took, &mut progress)
                .await;
            measured.processor.add(&before, &self.processes.sample());
            #[cfg(feature = "dev")]
            self.measure_raw(seed, &mut measured.raw).await;
        }
        progress.end();

        measured.tally = taken(&tally);
        measured
    }

    /// Measures each raw figure for a while.
    #[cfg(feature = "dev")]
    async fn measure_raw(&self, seed: u64, figures: &mut RawFigures) {
        let Some(raw) = &self.raw else {
            return;
        };
        let tally = Arc::new(Mutex::new(std::mem::take(&mut figures.tally)));
        for kind in Kind::ALL {
            let work = Arc::new(RawWork {
                raw: raw.clone(),
                kind,
                callers: self.plan.callers,
            });
            let schedule = Schedule::new(None, Some(self.plan.raw_length()), None);
            let took = self
                .drive(&work, schedule, seed, &tally, &self.watch())
                .await;
            match figures
                .took
                .iter_mut()
                .find(|(name, _)| *name == kind.name())
            {
                Some((_, before)) => *before += took,
                None => figures.took.push((kind.name(), took)),
            }
        }
        figures.tally = taken(&tally);
    }

    async fn drive<W: Work>(
        &self,
        work: &Arc<W>,
        schedule: Schedule,
        seed: u64,
        tally: &Arc<Mutex<Tally>>,
        watch: &Arc<Watch>,
    ) -> Duration {
        let round = Round {
            callers: self.plan.callers,
            schedule,
            seed,
        };

        drive(work, round, tally, watch).await
    }

    /// Waits for a round, and shows the progress of the run meanwhile.
    async fn watched(
        &self,
        round: impl Future<Output = Duration>,
        watch: &Watch,
        before: Duration,
        progress: &mut Progress,
    ) -> Duration {
        let begun = tokio::time::Instant::now();
        tokio::pin!(round);
        loop {
            tokio::select! {
                took = &mut round => return took,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                    let seconds = (before + begun.elapsed()).as_secs();
                    let (done, all) = match (self.plan.requests, self.plan.duration) {
                        (Some(all), _) => (watch.done.load(Ordering::Relaxed), all),
                        (None, all) => (seconds, all.unwrap_or_default().as_secs()),
                    };
                    progress.step(done.min(all), all);
                }
            }
        }
    }

    fn watch(&self) -> Arc<Watch> {
        Arc::new(Watch {
            stop: self.stop.clone(),
            ..Watch::default()
        })
    }
}

fn taken(tally: &Mutex<Tally>) -> Tally {
    std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_have_all_requests_together() {
        let plan = Plan {
            callers: 1,
            rate_per_s: None,
            duration: None,
            requests: Some(11),
            warm_up: Duration::ZERO,
            rounds: 4,
        };

        let counts = (0..4).map(|number| {
            let schedule = plan.round(number);
            std::iter::from_fn(|| schedule.next(Duration::ZERO)).count()
        });

        assert_eq!(counts.collect::<Vec<_>>(), [3, 3, 3, 2]);
    }
}
