//! What is known of sets from following the bucket.

use super::*;
use crate::seal::{Keyring, OwnerSet};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BUCKET: &str = "2026-01-01T00:00:00Z";
const ALICE: OwnerKey = owner(1);
const BOB: OwnerKey = owner(2);

const fn owner(number: u8) -> OwnerKey {
    OwnerKey::from_bytes([number; 16])
}

/// Returns a set without records, which is current up to that sequence.
fn set(owner: OwnerKey, current_to: u64) -> Snapshot {
    set_checked(owner, current_to, Some(Instant::now()))
}

fn set_checked(owner: OwnerKey, current_to: u64, checked_at: Option<Instant>) -> Snapshot {
    let key = |digit: &str| format!("{}=", digit.repeat(43));
    let keyring = Keyring::from_base64(&key("A"), &key("E")).expect("keys");
    let set = Snapshot::new(&keyring, OwnerSet::empty(owner), checked_at).expect("a set");
    set.note_current_to(current_to);
    set
}

#[test]
fn a_set_is_current_until_something_newer_of_its_owner_comes() {
    let following = Following::default();
    let mut follow = following.begin(BUCKET, 10);
    let (alice, bob) = (set(ALICE, 10), set(BOB, 10));

    follow.note([(11, Some(ALICE)), (12, None)], true);

    assert_eq!(following.position(), Some(12));
    assert_eq!(following.standing(&alice), Standing::Behind);
    assert_eq!(following.standing(&bob), Standing::Current);
    assert_eq!(bob.current_to(), Some(12));
}

#[test]
fn nothing_is_known_of_a_set_from_before_or_while_nobody_follows() {
    let following = Following::default();
    assert_eq!(following.standing(&set(ALICE, 10)), Standing::Unknown);
    assert_eq!(following.position(), None);

    let follow = following.begin(BUCKET, 10);
    for unknown in [set(ALICE, 9), set(ALICE, 0)] {
        assert_eq!(following.standing(&unknown), Standing::Unknown);
        assert!(following.needs_answer(&unknown));
    }

    drop(follow);
    assert_eq!(following.standing(&set(ALICE, 10)), Standing::Unknown);
    assert_eq!(following.position(), None);
    assert!(
        !following.needs_answer(&set(ALICE, 10)),
        "nobody would know more"
    );
}

#[test]
fn an_owner_is_asked_for_again_after_a_minute() {
    let following = Following::default();
    let _follow = following.begin(BUCKET, 10);
    assert!(!following.needs_answer(&set(ALICE, 10)));

    let long_ago = Instant::now().checked_sub(ANSWER_AGE_MAX + Duration::from_secs(1));
    let old = set_checked(ALICE, 10, long_ago);
    assert!(following.needs_answer(&old));
    assert_eq!(following.standing(&old), Standing::Current);
}

#[test]
fn a_beginning_that_overlaps_continues_and_any_other_forgets() {
    let following = Following::default();
    following.begin(BUCKET, 10).note([(11, Some(ALICE))], true);

    let _overlapping = following.begin(BUCKET, 11);
    assert_eq!(following.standing(&set(ALICE, 10)), Standing::Behind);
    assert_eq!(following.standing(&set(BOB, 10)), Standing::Current);

    let _later = following.begin(BUCKET, 13);
    assert_eq!(following.standing(&set(BOB, 12)), Standing::Unknown);
    assert_eq!(following.standing(&set(BOB, 13)), Standing::Current);

    let _other = following.begin("another time", 5);
    assert_eq!(following.position(), Some(5));
    assert_eq!(following.standing(&set(BOB, 4)), Standing::Unknown);
}

#[test]
fn a_follower_of_what_is_given_up_changes_nothing() {
    let following = Following::default();
    let mut earlier = following.begin(BUCKET, 10);
    let _present = following.begin("another time", 5);

    earlier.note([(11, Some(ALICE))], true);

    assert_eq!(following.position(), Some(5));
    assert_eq!(following.standing(&set(ALICE, 5)), Standing::Current);
}

#[test]
fn what_is_too_long_ago_is_not_known() {
    let following = Following::default();
    let mut follow = following.begin(BUCKET, 0);
    let (idle, read) = (set(BOB, 0), set(ALICE, 0));
    idle.note_current_to(1);
    read.note_current_to(1);

    let last = 3 + REMEMBERED_RECORDS as u64;
    for sequence in 1..=last {
        follow.note([(sequence, Some(owner(3)))], true);
        if sequence % 1_000 == 0 {
            assert_eq!(following.standing(&read), Standing::Current);
        }
    }

    assert_eq!(following.standing(&idle), Standing::Unknown);
    assert_eq!(following.standing(&read), Standing::Current);
    let noted = following.noted();
    assert_eq!(noted.order.len(), REMEMBERED_RECORDS);
    assert_eq!(noted.newest.len(), 1);
}

#[test]
fn a_set_that_was_current_lately_serves_while_somebody_follows() {
    let following = Following::default();
    let follow = following.begin(BUCKET, 10);
    let alice = set(ALICE, 10);
    let minute = Duration::from_secs(60);
    assert!(!following.was_current_within(&alice, minute));

    following.confirm(Instant::now());

    assert!(following.was_current_within(&alice, minute));
    assert!(!following.was_current_within(&alice, Duration::ZERO));
    assert!(!following.was_current_within(&set(BOB, 9), minute));
    drop(follow);
    assert!(!following.was_current_within(&alice, minute));
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_not_repeated_before_the_position_moves_that_far() {
    let following = Following::default();
    let mut follow = following.begin(BUCKET, 10);
    let waited = async |sequence| {
        let begun = tokio::time::Instant::now();
        let reached = following.reach(sequence).await;
        (reached, begun.elapsed())
    };

    assert_eq!(waited(10).await, (true, Duration::ZERO));
    assert!(!waited(12).await.0);
    assert_eq!(waited(13).await, (false, Duration::ZERO));

    follow.note([(11, None), (12, None)], true);
    let (more, ()) = tokio::join!(waited(13), async {
        tokio::time::sleep(WAIT_MAX / 2).await;
        follow.note([(13, None)], true);
    });
    assert_eq!(more, (true, WAIT_MAX / 2));
}

/// The bucket keeps so many records of a key in the model.
const KEPT: usize = 2;

/// A bucket that keeps a few records of each key, and somebody who follows it.
#[derive(Default)]
struct Model {
    /// The owner of each message that is kept, by its sequence.
    kept: BTreeMap<u64, u8>,
    newest: BTreeMap<u8, u64>,
    last: u64,
    delivered: u64,
}

impl Model {
    fn write(&mut self, owner: u8) {
        self.last += 1;
        self.kept.insert(self.last, owner);
        self.newest.insert(owner, self.last);

        let of_owner = self.kept.iter().filter(|(_, kept)| **kept == owner);
        let of_owner: Vec<u64> = of_owner.map(|(sequence, _)| *sequence).collect();
        for removed in of_owner.iter().rev().skip(KEPT) {
            self.kept.remove(removed);
        }
    }

    /// Delivers the next messages, at most so many. Returns them, and whether there were no more.
    fn deliver(&mut self, count: usize) -> (Vec<(u64, u8)>, bool) {
        let after = self.kept.range(self.delivered + 1..);
        let messages: Vec<_> = after.take(count).map(|(at, of)| (*at, *of)).collect();
        self.delivered = messages.last().map_or(self.delivered, |(at, _)| *at);
        let is_at_end = self.kept.range(self.delivered + 1..).next().is_none();
        (messages, is_at_end)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8),
    Deliver(usize),
}

proptest! {
    /// Whatever was removed before it came: what is known to be current has nothing newer up to there.
    #[test]
    fn a_set_that_is_known_to_be_current_is(
        steps in prop::collection::vec(
            prop_oneof![
                3 => (1u8..4).prop_map(Step::Write),
                1 => (1usize..4).prop_map(Step::Deliver),
            ],
            1..60,
        )
    ) {
        let following = Following::default();
        let mut follow = following.begin(BUCKET, 0);
        let mut model = Model::default();
        // The state of the bucket after each write.
        let mut states: Vec<BTreeMap<u8, u64>> = vec![BTreeMap::new()];

        for step in steps {
            match step {
                Step::Write(owner) => {
                    model.write(owner);
                    states.push(model.newest.clone());
                }
                Step::Deliver(count) => {
                    let (messages, is_at_end) = model.deliver(count);
                    let messages = messages.iter().map(|(at, of)| (*at, Some(owner(*of))));
                    follow.note(messages.collect::<Vec<_>>(), is_at_end);
                }
            }

            let position = following.position().expect("it follows");
            for number in 1..4 {
                let noted = following.noted().newest.get(&owner(number)).copied();
                let state = states.get(position as usize).expect("it was");
                prop_assert!(
                    noted.unwrap_or_default() >= state.get(&number).copied().unwrap_or_default(),
                    "at {position} nothing newer than {noted:?} is known of owner {number}"
                );
            }
        }
    }
}
