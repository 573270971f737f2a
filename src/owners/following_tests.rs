//! What is known of sets from following the bucket.

use super::*;
use crate::seal::{Keyring, OwnerSet};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ALICE: OwnerKey = owner(1);
const BOB: OwnerKey = owner(2);

const fn owner(number: u8) -> OwnerKey {
    OwnerKey::from_bytes([number; 16])
}

/// Returns a set without records, of which is known now that it is current up to that sequence.
fn set(following: &Following, owner: OwnerKey, to: u64) -> Snapshot {
    set_of(owner, Some((following.asked(), to)))
}

fn set_of(owner: OwnerKey, known: Option<(Asked, u64)>) -> Snapshot {
    let key = |digit: &str| format!("{}=", digit.repeat(43));
    let keyring = Keyring::from_base64(&key("A"), &key("E")).expect("keys");
    let set = Snapshot::new(&keyring, OwnerSet::empty(owner), None).expect("a set");
    if let Some((asked, to)) = known {
        set.note_known(asked, to);
    }
    set
}

impl Following {
    fn standing(&self, set: &Snapshot) -> Standing {
        self.noted().standing(set)
    }
}

/// Returns the position, if somebody follows.
fn position(following: &Following) -> Option<u64> {
    following.place().map(|place| place.position)
}

#[test]
fn a_set_is_current_until_something_newer_of_its_owner_comes() {
    let following = Following::default();
    let mut follow = following.begin(10);
    let (alice, bob) = (set(&following, ALICE, 10), set(&following, BOB, 10));

    follow.note([(11, Some(ALICE)), (12, None)]);

    assert_eq!(position(&following), Some(12));
    assert_eq!(following.standing(&alice), Standing::Behind);
    assert_eq!(following.standing(&bob), Standing::Current);
    assert_eq!(bob.known().map(|known| known.to), Some(12));
}

#[test]
fn nothing_is_known_of_a_set_from_before_or_while_nobody_follows() {
    let following = Following::default();
    let before = set(&following, ALICE, 10);
    assert_eq!(following.standing(&before), Standing::Unknown);
    assert_eq!(position(&following), None);

    let follow = following.begin(10);
    for unknown in [before, set(&following, ALICE, 9), set_of(ALICE, None)] {
        assert_eq!(following.standing(&unknown), Standing::Unknown);
        assert!(following.needs_answer(&unknown));
    }
    let current = set(&following, ALICE, 10);
    assert_eq!(following.standing(&current), Standing::Current);

    drop(follow);
    assert_eq!(following.standing(&current), Standing::Unknown);
    assert_eq!(position(&following), None);
    assert!(!following.needs_answer(&current), "nobody would know more");
}

#[test]
fn an_owner_is_asked_for_again_after_a_minute() {
    let following = Following::default();
    let _follow = following.begin(10);
    following.confirm(Instant::now(), following.place().expect("it follows"));
    let minute = Duration::from_secs(60);
    let new = set(&following, ALICE, 10);
    assert!(!following.needs_answer(&new));
    assert!(following.was_current_within(&new, minute));

    let at = Instant::now().checked_sub(ANSWER_AGE_MAX + Duration::from_secs(1));
    let asked = Asked {
        at: at.expect("in range"),
        ..following.asked()
    };
    let old = set_of(ALICE, Some((asked, 10)));
    assert_eq!(following.standing(&old), Standing::Current);
    assert!(following.needs_answer(&old));
    assert!(!following.was_current_within(&old, minute));
}

#[test]
fn what_was_known_before_a_beginning_counts_no_longer() {
    let following = Following::default();
    let mut follow = following.begin(10);
    let asked = following.asked();
    let known_late = |to| set_of(ALICE, Some((asked, to)));

    follow.note([(11, Some(BOB))]);
    assert_eq!(following.standing(&known_late(11)), Standing::Current);
    follow.begin_anew();

    assert_eq!(following.standing(&known_late(1_000)), Standing::Unknown);
    assert_eq!(
        following.standing(&set(&following, BOB, 10)),
        Standing::Unknown
    );
    assert_eq!(
        following.standing(&set(&following, BOB, 11)),
        Standing::Current
    );
    let known = set(&following, ALICE, 11);
    known.note_known(asked, 1_000);
    assert_eq!(
        known.known().map(|known| known.to),
        Some(11),
        "of the newer one"
    );
}

#[test]
fn another_bucket_ends_the_following_until_it_begins_anew() {
    let following = Following::default();
    following.note_bucket("monday");
    let mut follow = following.begin(10);
    following.note_bucket("monday");
    let alice = set(&following, ALICE, 10);
    assert_eq!(following.standing(&alice), Standing::Current);

    following.note_bucket("tuesday");
    assert_eq!(position(&following), None);
    assert_eq!(following.standing(&alice), Standing::Unknown);
    follow.note([(11, None)]);
    assert_eq!(position(&following), None);

    assert!(follow.is_given_up());
    follow.begin_anew();
    assert_eq!(position(&following), Some(11));
    assert_eq!(following.standing(&alice), Standing::Unknown);
}

#[test]
fn of_two_who_follow_the_later_one_counts() {
    let following = Following::default();
    let mut earlier = following.begin(10);
    let later = following.begin(5);

    earlier.note([(11, Some(ALICE))]);
    earlier.begin_anew();
    assert_eq!(position(&following), Some(5));
    assert_eq!(
        following.standing(&set(&following, ALICE, 5)),
        Standing::Current
    );
    drop(later);
    assert_eq!(position(&following), None);

    assert!(earlier.is_given_up());
    earlier.begin_anew();
    assert_eq!(position(&following), Some(11));
    drop(earlier);
    assert_eq!(position(&following), None);
}

#[test]
fn after_a_gap_the_position_waits_for_a_barrier() {
    let following = Following::default();
    let mut follow = following.begin(10);

    follow.note([(12, None)]);
    assert!(follow.has_open_gap());
    follow.close_gap_at(14);
    follow.note([(13, None)]);
    assert_eq!(position(&following), Some(10));
    follow.note([(14, None)]);
    assert_eq!(position(&following), Some(14));

    follow.note([(16, None)]);
    follow.close_gap_at(16);
    assert_eq!(position(&following), Some(16), "it had come already");
}

#[test]
fn what_is_too_long_ago_is_not_known() {
    let following = Following::default();
    let mut follow = following.begin(0);
    let (idle, read) = (set(&following, BOB, 1), set(&following, ALICE, 1));

    let last = 3 + REMEMBERED_RECORDS as u64;
    for sequence in 1..=last {
        follow.note([(sequence, Some(owner(3)))]);
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
    let follow = following.begin(10);
    let (alice, bob) = (set(&following, ALICE, 10), set(&following, BOB, 9));
    let minute = Duration::from_secs(60);
    assert!(!following.was_current_within(&alice, minute));

    let place = following.place().expect("it follows");
    assert!(following.confirm(Instant::now(), place));

    assert!(following.was_current_within(&alice, minute));
    assert!(!following.was_current_within(&alice, Duration::ZERO));
    assert!(!following.was_current_within(&bob, minute));
    drop(follow);
    assert!(!following.was_current_within(&alice, minute));
    let _another = following.begin(10);
    assert!(
        !following.confirm(Instant::now(), place),
        "of the one before"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_not_repeated_for_a_while() {
    let following = Following::default();
    let mut follow = following.begin(10);
    assert!(following.reach(10).await);
    assert_eq!(position(&following), Some(10));

    assert!(!following.reach(12).await);
    assert_eq!(position(&following), None, "reads ask the bucket");

    follow.note([(11, None)]);
    let (reached, ()) = tokio::join!(following.reach(12), async {
        tokio::time::sleep(WAIT_MAX / 2).await;
        follow.note([(12, None)]);
    });
    assert!(reached);
    following.noted().paused_until = Some(Instant::now());
    assert_eq!(position(&following), Some(12));
}

/// The bucket keeps so many records of a key in the model.
const KEPT: usize = 2;
/// The key of barriers in the model, which belongs to no owner.
const BARRIER: u8 = 0;

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

    /// Writes a barrier.
    fn write_barrier(&mut self) -> u64 {
        self.write(BARRIER);
        self.last
    }

    /// Delivers the next messages, at most so many.
    fn deliver(&mut self, count: usize) -> Vec<(u64, u8)> {
        let after = self.kept.range(self.delivered + 1..);
        let messages: Vec<_> = after.take(count).map(|(at, of)| (*at, *of)).collect();
        self.delivered = messages.last().map_or(self.delivered, |(at, _)| *at);
        messages
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8),
    Deliver(usize),
    CloseGap,
}

proptest! {
    /// Whatever was removed before it came: what is known to be current has nothing newer up to there.
    #[test]
    fn a_set_that_is_known_to_be_current_is(
        steps in prop::collection::vec(
            prop_oneof![
                3 => (1u8..4).prop_map(Step::Write),
                1 => (1usize..4).prop_map(Step::Deliver),
                1 => Just(Step::CloseGap),
            ],
            1..60,
        )
    ) {
        let following = Following::default();
        let mut follow = following.begin(0);
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
                    follow.note(model.deliver(count).into_iter().map(|(at, of)| {
                        (at, Some(owner(of)).filter(|_| of != BARRIER))
                    }));
                }
                Step::CloseGap if follow.has_open_gap() => {
                    follow.close_gap_at(model.write_barrier());
                    states.push(model.newest.clone());
                }
                Step::CloseGap => {}
            }

            let position = position(&following).expect("it follows");
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
