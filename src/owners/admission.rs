//! Limits on one owner's requests in one worker, so that a busy owner does not starve the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How many of an owner's reads, and how many of their writes, a worker works on at a time. The others
/// wait for their turn, so that a burst of one owner is not in front of everybody else's requests.
const OWNER_TURNS: u32 = 4;
/// The longest wait for a turn. After that a request goes on without one: what holds the turns up may
/// be an outage.
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);

/// The limits on one owner's requests in one worker.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most requests under way at a time.
    pub in_flight: usize,
    /// The most that requests may cost a second; 0 sets no limit.
    pub per_s: u64,
    /// The most that requests may cost at once after a pause.
    pub burst: u64,
}

/// Why an owner's request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The owner has as many requests under way as permitted.
    TooMany,
    /// The owner sends requests faster than permitted.
    TooFast {
        /// The time until there is room for this request, and for those that were refused before it.
        wait: Duration,
        /// How much of the burst is used. It is more than the burst after a costly request.
        used: u64,
    },
}

/// What a request costs of its owner's rate; a small one costs 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost(u64);

/// So many bytes in or out cost 1 more.
const COSTLY_BYTES: usize = 16 << 10;
/// So many operations of a batch cost 1 more.
const COSTLY_OPERATIONS: usize = 10;

impl Cost {
    /// The cost of a request with a body of so many bytes, before it is decoded.
    pub fn of_request(bytes: usize) -> Self {
        Self(1 + (bytes / COSTLY_BYTES) as u64)
    }

    /// What so many operations of a batch cost in addition.
    pub fn of_operations(operations: usize) -> Self {
        Self((operations / COSTLY_OPERATIONS) as u64)
    }

    /// What a reply with a body of so many bytes costs in addition.
    pub fn of_reply(bytes: usize) -> Self {
        Self((bytes / COSTLY_BYTES) as u64)
    }
}

/// The counts of an owner's requests in this worker.
pub(super) struct Traffic {
    under_way: AtomicUsize,
    /// Those of reads, and those of writes: a write may wait long for the bucket or for Postgres, and
    /// reads are answered from memory meanwhile.
    turns: [Arc<Semaphore>; 2],
    /// When the owner has the full burst again, in microseconds since the worker began: the
    /// theoretical arrival time of the generic cell rate algorithm (ITU-T I.371).
    even_at_us: AtomicU64,
    /// When the request that was last refused for its rate may come back, in microseconds since the
    /// worker began. The next one that is refused is told to come after it: if they came back
    /// together, all but one would be refused again.
    back_at_us: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            turns: [(); 2].map(|()| Arc::new(Semaphore::new(OWNER_TURNS as usize))),
            even_at_us: AtomicU64::new(0),
            back_at_us: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// Counts one more request under way, or returns why it is not admitted.
    pub(super) fn enter(&self, pace: &Pace, cost: Cost, began: Instant) -> Result<(), Denied> {
        // The request is counted before the check: of two that come at once, only one can take the
        // last place.
        if self.under_way.fetch_add(1, Ordering::AcqRel) >= pace.in_flight {
            self.leave();
            return Err(Denied::TooMany);
        }

        self.spend(pace, cost, began).inspect_err(|_| self.leave())
    }

    /// Counts one request less under way.
    pub(super) fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits until a request under way has its turn, at most for half of the time that it has left. In
    /// a worker that is busy it has all of the owner's turns of reads or of writes, so that each owner
    /// has one of each worked on.
    pub(super) async fn turn(
        &self,
        is_write: bool,
        is_busy: bool,
        left: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        let turns = if is_busy { OWNER_TURNS } else { 1 };
        let turn = self.turns[usize::from(is_write)]
            .clone()
            .acquire_many_owned(turns);

        timeout(TURN_WAIT_MAX.min(left / 2), turn).await.ok()?.ok()
    }

    /// Takes the cost of a request from the owner's rate, if there is room for a small request now.
    /// A costly one may use more than the burst, and later ones wait for that.
    fn spend(&self, pace: &Pace, cost: Cost, began: Instant) -> Result<(), Denied> {
        if pace.per_s == 0 {
            return Ok(());
        }

        let now = now_us(began);
        let each = pace.each_us();
        let limit = pace.limit_us();
        let spent = self
            .even_at_us
            .try_update(Ordering::AcqRel, Ordering::Acquire, |even_at| {
                let even_at = even_at.max(now);
                (even_at + each <= now.saturating_add(limit))
                    .then(|| even_at + each.saturating_mul(cost.0))
            });

        spent
            .map(|_| ())
            .map_err(|even_at| self.too_fast(pace, even_at, now))
    }

    /// The denial of a request at `now`, of an owner who has the full burst again at `even_at`.
    fn too_fast(&self, pace: &Pace, even_at: u64, now: u64) -> Denied {
        let each = pace.each_us();
        let room_at = (even_at.max(now) + each).saturating_sub(pace.limit_us());
        // No more wait than may be under way.
        let others = (pace.in_flight as u64).saturating_sub(1);
        let last = room_at.saturating_add(each.saturating_mul(others));
        let back_at = |before: u64| before.saturating_add(each).clamp(room_at, last);
        let before = self
            .back_at_us
            .update(Ordering::Relaxed, Ordering::Relaxed, back_at);

        Denied::TooFast {
            wait: Duration::from_micros(back_at(before).saturating_sub(now)),
            used: even_at.saturating_sub(now).div_ceil(each),
        }
    }

    /// Returns why an admitted request is not to be answered at length: replies to others that came
    /// with it have used more than the burst.
    pub(super) fn overdrawn(&self, pace: &Pace, began: Instant) -> Result<(), Denied> {
        let now = now_us(began);
        let even_at = self.even_at_us.load(Ordering::Acquire);

        if pace.per_s == 0 || even_at <= now.saturating_add(pace.limit_us()) {
            Ok(())
        } else {
            Err(self.too_fast(pace, even_at, now))
        }
    }

    /// Takes what turned out to be the cost of an admitted request from the owner's rate, whether
    /// there is room for it or not.
    pub(super) fn charge(&self, pace: &Pace, cost: Cost, began: Instant) {
        if pace.per_s == 0 || cost.0 == 0 {
            return;
        }

        let now = now_us(began);
        let charged = pace.each_us().saturating_mul(cost.0);
        self.even_at_us
            .update(Ordering::AcqRel, Ordering::Acquire, |even_at| {
                even_at.max(now) + charged
            });
    }
}

impl Pace {
    /// How long it takes until the rate permits a cost of 1 more, in microseconds.
    fn each_us(&self) -> u64 {
        1_000_000 / self.per_s.max(1)
    }

    /// How long it takes until the full burst is there again, in microseconds.
    fn limit_us(&self) -> u64 {
        self.each_us().saturating_mul(self.burst.max(1))
    }
}

fn now_us(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Cost = Cost(1);

    const PACE: Pace = Pace {
        in_flight: 1,
        per_s: 10,
        burst: 3,
    };

    #[test]
    fn size_and_operations_add_to_the_cost() {
        for (bytes, operations, cost) in [
            (0, 0, 1),
            (16_383, 9, 1),
            (16_384, 0, 2),
            (0, 10, 2),
            (262_144, 100, 27),
        ] {
            let costs = [Cost::of_request(bytes), Cost::of_operations(operations)];
            assert_eq!(costs.iter().map(|cost| cost.0).sum::<u64>(), cost);
        }
        assert_eq!(Cost::of_reply(16_383), Cost(0));
        assert_eq!(Cost::of_reply(786_432), Cost(48));
    }

    #[test]
    fn a_request_above_the_burst_is_waited_for_by_the_next() {
        let traffic = Traffic::default();
        let began = Instant::now();

        let costly = Cost::of_request(160 << 10);
        assert!(traffic.spend(&PACE, costly, began).is_ok());
        traffic.charge(&PACE, Cost::of_reply(160 << 10), began);

        let Err(Denied::TooFast { wait, used }) = traffic.spend(&PACE, SMALL, began) else {
            panic!("too fast")
        };
        // It cost 11 and its reply 10, so 19 have to come back until there is room for 1 of 3.
        assert!((11..=21).contains(&used), "{used}");
        let wait_ms = wait.as_millis();
        assert!((900..=1_900).contains(&wait_ms), "{wait:?}");
    }

    #[test]
    fn requests_that_come_together_share_the_burst_of_their_replies() {
        let traffic = Traffic::default();
        let began = Instant::now();
        for _ in 0..3 {
            assert!(traffic.spend(&PACE, SMALL, began).is_ok());
        }
        assert!(traffic.overdrawn(&PACE, began).is_ok(), "all are admitted");

        traffic.charge(&PACE, Cost::of_reply(160 << 10), began);

        let denied = traffic.overdrawn(&PACE, began);
        assert!(
            matches!(denied, Err(Denied::TooFast { used: 12..=13, .. })),
            "{denied:?}"
        );
    }

    #[test]
    fn after_a_burst_the_rate_holds() {
        let traffic = Traffic::default();
        let began = Instant::now();

        assert!((0..3).all(|_| traffic.spend(&PACE, SMALL, began).is_ok()));

        let Err(Denied::TooFast { wait, used }) = traffic.spend(&PACE, SMALL, began) else {
            panic!("too fast")
        };
        assert_eq!(used, 3);
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_millis(100),
            "{wait:?}"
        );

        // Two tenths of a second later, two more requests are permitted.
        let earlier = began
            .checked_sub(Duration::from_millis(200))
            .expect("the machine runs longer than that");
        let admitted = (0..10)
            .filter(|_| traffic.spend(&PACE, SMALL, earlier).is_ok())
            .count();
        assert_eq!(admitted, 2);
    }

    #[test]
    fn refused_requests_do_not_all_come_back_at_once() {
        let traffic = Traffic::default();
        let pace = Pace {
            in_flight: 4,
            ..PACE
        };
        let began = Instant::now();
        assert!((0..3).all(|_| traffic.spend(&pace, SMALL, began).is_ok()));

        let wait_ms = || match traffic.spend(&pace, SMALL, began) {
            Err(Denied::TooFast { wait, .. }) => wait.as_millis() as usize,
            other => panic!("{other:?}"),
        };
        let waits: Vec<usize> = (0..6).map(|_| (wait_ms() + 50) / 100).collect();

        // One more is admitted each tenth of a second, and no more than four wait.
        assert_eq!(waits, [1, 2, 3, 4, 4, 4]);

        // A second later none of them is waited for.
        let began = began
            .checked_sub(Duration::from_secs(1))
            .expect("the machine runs longer than that");
        assert!((0..3).all(|_| traffic.spend(&pace, SMALL, began).is_ok()));
        let denied = traffic.spend(&pace, SMALL, began);
        let soon = Duration::from_millis(100);
        assert!(
            matches!(denied, Err(Denied::TooFast { wait, .. }) if wait <= soon),
            "{denied:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_owners_requests_wait_for_each_other() {
        let traffic = Traffic::default();
        let read = |is_busy, left| traffic.turn(false, is_busy, left);
        let (ample, little) = (TURN_WAIT_MAX * 4, TURN_WAIT_MAX / 4);
        let mut taken = Vec::new();
        for _ in 0..OWNER_TURNS {
            taken.push(read(false, ample).await.expect("a turn"));
        }

        let begun = tokio::time::Instant::now();
        assert!(read(false, ample).await.is_none());
        assert_eq!(begun.elapsed(), TURN_WAIT_MAX);
        assert!(read(false, little).await.is_none());
        assert_eq!(begun.elapsed(), TURN_WAIT_MAX + little / 2);
        let write = traffic.turn(true, false, ample).await;
        assert!(write.is_some(), "writes do not wait for reads");

        taken.pop();
        assert!(read(true, ample).await.is_none(), "three are worked on");
        taken.clear();
        let _all = read(true, ample).await.expect("all turns");
        assert!(read(false, ample).await.is_none());
    }

    #[test]
    fn limits_without_a_bound_are_no_error() {
        let pace = Pace {
            in_flight: usize::MAX,
            burst: u64::MAX,
            ..PACE
        };
        let traffic = Traffic::default();
        let began = Instant::now();

        assert!((0..1_000).all(|_| traffic.spend(&pace, SMALL, began).is_ok()));
        assert!(traffic.overdrawn(&pace, began).is_ok());
        let pace = Pace { burst: 3, ..pace };
        for _ in 0..2 {
            assert!(traffic.spend(&pace, SMALL, began).is_err());
        }
    }

    #[test]
    fn no_rate_is_no_bound() {
        let traffic = Traffic::default();
        let pace = Pace { per_s: 0, ..PACE };

        assert!((0..1_000).all(|_| traffic.spend(&pace, SMALL, Instant::now()).is_ok()));
    }
}
