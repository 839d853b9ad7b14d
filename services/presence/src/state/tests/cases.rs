//! The rules as cases.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn is_sign_of_life(said: &[Delta]) -> bool {
    matches!(said, [delta] if delta.is_empty())
}

#[test]
fn the_roster_comes_first_and_then_each_change_once() {
    let mut world = World::new(1);
    for user_id in ["a", "b", "c"] {
        world.enter(0, 1, user_id, user_id);
    }
    assert!(world.view(0, 1).is_empty(), "the roster was empty");
    world.flush(0);
    world.enter(0, 2, "d", "Dora");
    assert_eq!(world.view(0, 2), [("a", "a"), ("b", "b"), ("c", "c")], "what was told, in two parts");
    world.flush(0);
    for link in [1, 2] {
        assert_eq!(world.view(0, link), [("a", "a"), ("b", "b"), ("c", "c"), ("d", "Dora")]);
    }
    world.flush(0);
    assert_eq!(world.instances[0].views[&1].frames, 1 + 2 + 1, "a roster, two frames of three users, one of one");
}

#[test]
fn a_reload_within_the_grace_tells_nothing() {
    let mut world = World::new(1);
    world.enter(0, 1, "z", "z");
    world.enter(0, 2, "a", "Pat");
    world.flush(0);
    let frames = world.instances[0].views[&1].frames;
    for _ in 0..3 {
        world.leave(0, 1);
        world.pass(SECOND);
        world.flush(0);
        world.enter(0, 2, "a", "Pat");
        world.pass(SECOND / 2);
        world.leave(0, 1);
        world.pass(SECOND);
        world.flush(0);
        world.enter(0, 2, "a", "Pat");
    }
    assert_eq!(world.instances[0].views[&1].frames, frames);
    assert!(world.instances[0].seen.is_empty());
}

#[test]
fn the_last_session_and_the_end_of_the_grace_take_a_user_offline() {
    let mut world = World::new(1);
    world.enter(0, 1, "z", "z");
    world.enter(0, 1, "a", "Pat");
    world.enter(0, 2, "a", "Pat");
    world.flush(0);
    world.leave(0, 1);
    world.pass(3 * SECOND);
    world.flush(0);
    assert_eq!(world.view(0, 1), [("a", "Pat"), ("z", "z")], "the other tab is open");
    let left_at = world.now.clock;
    world.leave(0, 1);
    world.pass(SECOND * 2 - Duration::from_millis(1));
    world.flush(0);
    assert_eq!(world.view(0, 1), [("a", "Pat"), ("z", "z")]);
    let due = world.instances[0].state.due();
    world.pass(Duration::from_millis(1));
    assert_eq!(due, Some(world.now.timer));
    world.flush(0);
    assert_eq!(world.view(0, 1), [("z", "z")]);
    assert_eq!(world.instances[0].seen, BTreeMap::from([("a".to_owned(), left_at)]), "not the end of the grace");
}

#[test]
fn a_new_name_is_told_and_an_old_one_is_not_told_again() {
    let mut world = World::new(1);
    world.enter(0, 1, "a", "Pat");
    world.flush(0);
    world.enter(0, 1, "a", "Patricia");
    world.flush(0);
    assert_eq!(world.view(0, 1), [("a", "Patricia")]);
    world.enter(0, 1, "a", "Patricia");
    let frames = world.instances[0].views[&1].frames;
    world.flush(0);
    assert_eq!(world.instances[0].views[&1].frames, frames);
}

#[test]
fn who_came_and_went_between_two_flushes_was_never_there() {
    let mut world = World::new(2);
    world.enter(0, 1, "z", "z");
    world.flush(0);
    let frames = world.instances[0].views[&1].frames;
    world.enter(0, 1, "a", "Pat");
    world.leave(0, 1);
    world.pass(TERMS.grace);
    assert!(world.flush(0).is_empty());
    assert_eq!(world.instances[0].views[&1].frames, frames);
    assert!(world.instances[0].seen.contains_key("a"), "but it was seen");
}

#[test]
fn who_is_online_is_known_before_it_is_told() {
    let mut world = World::new(1);
    for user_id in ["b", "c", "e"] {
        world.enter(0, 1, user_id, user_id);
    }
    world.flush(0);
    world.enter(0, 1, "d", "Dora");
    world.enter(0, 1, "b", "Bea");
    world.leave(0, 1);
    world.pass(TERMS.grace);
    let roster = &mut world.instances[0].state.roster;
    roster.expire(world.now);
    assert_eq!(roster.count(), 3);
    let page = |after: &str, size| -> Vec<String> {
        roster.page(after, size).iter().map(|(user_id, name)| format!("{user_id} {name}")).collect()
    };
    assert_eq!(page("", 9), ["b Bea", "d Dora", "e e"]);
    assert_eq!(page("", 2), ["b Bea", "d Dora"]);
    assert_eq!(page("b", 1), ["d Dora"]);
    assert_eq!(page("d", 9), ["e e"]);
    assert!(page("e", 9).is_empty());
}

#[test]
fn changes_while_a_long_roster_is_told_are_neither_lost_nor_doubled() {
    let mut world = World::new(1);
    for user_id in ["b", "d", "f", "h", "j"] {
        world.enter(0, 1, user_id, user_id);
    }
    world.flush(0);
    world.begin(0, 2, "z", "z");
    assert!(world.next_part(0, 2), "b and d, and more to come");
    world.leave(0, 0);
    world.leave(0, 2);
    world.enter(0, 1, "c", "c");
    world.enter(0, 1, "i", "i");
    world.enter(0, 1, "d", "Dora");
    world.pass(TERMS.grace);
    world.flush(0);
    assert_eq!(world.view(0, 2), [("b", "b"), ("d", "d")], "nothing yet");
    while world.next_part(0, 2) {}
    let expected = [("c", "c"), ("d", "Dora"), ("f", "f"), ("i", "i"), ("j", "j"), ("z", "z")];
    assert_eq!(world.view(0, 1), expected);
    assert_eq!(world.view(0, 2), expected);
}

#[test]
fn other_instances_are_told_as_the_streams_are() {
    let mut world = World::new(2);
    world.enter(1, 1, "z", "z");
    world.enter(0, 1, "a", "Pat");
    assert_eq!(world.flush(0)[0].seq, 1);
    world.deliver_all();
    world.flush(1);
    assert_eq!(world.view(1, 1), [("a", "Pat"), ("z", "z")]);
    // The user goes from one to the other, as with a stream that broke.
    world.leave(0, 0);
    world.pass(SECOND);
    world.enter(1, 1, "a", "Pat");
    let frames = world.instances[1].views[&1].frames;
    world.settle(5 * SECOND);
    assert_eq!(world.instances[1].views[&1].frames, frames, "nobody saw it go");
    assert_eq!(world.told(0), world.told(1));
}

#[test]
fn the_latest_name_is_shown_everywhere() {
    let mut world = World::new(2);
    world.enter(0, 1, "a", "Pat");
    world.settle(SECOND);
    world.enter(1, 1, "a", "Patricia");
    world.settle(SECOND);
    assert_eq!(world.view(0, 1), [("a", "Patricia")]);
    assert_eq!(world.view(1, 1), [("a", "Patricia")]);
    world.enter(0, 1, "a", "Pat");
    world.settle(SECOND);
    assert_eq!(world.view(0, 1), [("a", "Pat")]);
    assert_eq!(world.view(1, 1), [("a", "Pat")]);
}

#[test]
fn a_silent_instance_takes_its_users_with_it_but_not_those_who_are_elsewhere_too() {
    let mut world = World::new(3);
    world.enter(0, 1, "a", "Pat");
    world.enter(2, 1, "a", "Pat");
    world.enter(2, 1, "b", "Bea");
    world.settle(SECOND / 2);
    world.flush(0);
    assert_eq!(world.told(0).len(), 2);
    let heard_at = world.now.clock;
    // The third says nothing any more.
    for _ in 0..29 {
        world.pass(SECOND / 2);
        for at in [0, 1] {
            world.flush(at);
        }
        world.deliver_all();
        assert_eq!(world.view(0, 1), [("a", "Pat"), ("b", "Bea")]);
    }
    world.pass(SECOND / 2);
    for at in [0, 1] {
        world.flush(at);
    }
    assert_eq!(world.view(0, 1), [("a", "Pat")]);
    assert_eq!(world.told(1).into_keys().collect::<Vec<_>>(), ["a"]);
    let seen = BTreeMap::from([("b".to_owned(), heard_at)]);
    assert_eq!((&world.instances[0].seen, world.instances[1].seen.len()), (&seen, 0), "the eldest notes it");
    // It was only slow.
    world.settle(6 * SECOND);
    assert_eq!(world.view(0, 1), [("a", "Pat"), ("b", "Bea")]);
}

#[test]
fn an_instance_that_lives_keeps_its_users_while_the_bus_is_gone() {
    let mut world = World::new(2);
    world.enter(0, 1, "z", "z");
    world.enter(1, 1, "a", "Pat");
    world.settle(SECOND);
    let other = world.instances[1].id;
    for _ in 0..10 {
        world.pass(TERMS.lease / 3);
        let now = world.now.timer;
        world.instances[0].state.alive(&[other, Uuid::nil()], now);
        world.flush(0);
    }
    assert_eq!(world.view(0, 1), [("a", "Pat"), ("z", "z")]);
    world.pass(TERMS.lease);
    world.flush(0);
    assert_eq!(world.view(0, 1), [("z", "z")]);
}

#[test]
fn a_gap_is_asked_about_once_a_second_and_a_snapshot_closes_it() {
    let mut world = World::new(2);
    world.enter(1, 1, "z", "z");
    world.enter(0, 1, "gone", "gone");
    world.enter(0, 1, "a", "Pat");
    world.settle(SECOND);
    world.leave(0, 0);
    world.pass(TERMS.grace);
    world.flush(0);
    world.on_the_way.clear();
    for user_id in ["b", "c", "d"] {
        world.enter(0, 1, user_id, user_id);
        world.flush(0);
        assert!(world.deliver(0, 1));
    }
    assert_eq!(world.on_the_way[&(1, 0)].len(), 1, "one question");
    assert_eq!(world.told(1).len(), 3, "z, gone and a, as long as it is not answered");
    world.pass(SECOND);
    world.enter(0, 1, "e", "e");
    world.flush(0);
    world.deliver(0, 1);
    assert_eq!(world.on_the_way[&(1, 0)].len(), 2, "and one more");
    world.settle(2 * SECOND);
    assert_eq!(world.view(1, 1), pairs(&world.told(0)));
    assert!(!world.told(1).contains_key("gone"));
    // From here the numbers go on.
    world.enter(0, 1, "f", "f");
    world.settle(2 * SECOND);
    assert_eq!(world.view(1, 1), pairs(&world.told(0)));
}

#[test]
fn a_snapshot_that_lacks_a_part_is_asked_for_again() {
    let mut world = World::new(2);
    for user_id in ["a", "b", "c", "d", "e"] {
        world.enter(0, 1, user_id, user_id);
    }
    world.flush(0);
    world.on_the_way.clear();
    let ask = world.instances[1].state.ask_all(world.now.timer).expect("the first");
    assert_eq!(world.instances[1].state.ask_all(world.now.timer), None);
    world.say(1, Said::Ask(ask));
    world.deliver_all();
    assert_eq!(world.instances[0].state.due(), Some(world.now.timer));
    world.flush(0);
    let parts = world.on_the_way.get_mut(&(0, 1)).unwrap();
    assert_eq!(parts.len(), 3);
    parts.remove(1);
    world.deliver(0, 1);
    world.deliver(0, 1);
    assert_eq!(world.on_the_way[&(1, 0)].len(), 1, "asked");
    world.settle(2 * SECOND);
    assert_eq!(world.told(1), world.told(0));
}

#[test]
fn an_instance_that_has_nothing_to_say_shows_that_it_lives() {
    let mut world = World::new(1);
    assert!(is_sign_of_life(&world.flush(0)), "it introduces itself");
    assert!(world.flush(0).is_empty());
    assert_eq!(world.instances[0].state.due(), Some(world.now.timer + TERMS.lease / 3));
    world.pass(TERMS.lease / 3);
    assert!(is_sign_of_life(&world.flush(0)));
    world.enter(0, 1, "a", "Pat");
    let said = world.flush(0);
    assert_eq!((said.len(), said[0].seq), (1, 1));
}
