//! Whatever is lost on the way, all instances end up with the same roster, and no stream ever knows another one than
//! its instance told.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const INSTANCES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Begin {
        at: usize,
        link: u8,
        user: u8,
        name: u8,
    },
    Part {
        at: usize,
        link: u8,
    },
    Leave {
        at: usize,
        session: prop::sample::Index,
    },
    Flush {
        at: usize,
    },
    Deliver {
        from: usize,
        to: usize,
    },
    Lose {
        from: usize,
        to: usize,
    },
    /// The bus says that something was lost.
    Missed {
        at: usize,
    },
    Pass {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..INSTANCES;
    let step = prop_oneof![
        6 => (at.clone(), 0u8..3, 0u8..8, 0u8..3)
            .prop_map(|(at, link, user, name)| Step::Begin { at, link, user, name }),
        4 => (at.clone(), 0u8..3).prop_map(|(at, link)| Step::Part { at, link }),
        5 => (at.clone(), any::<prop::sample::Index>()).prop_map(|(at, session)| Step::Leave { at, session }),
        6 => at.clone().prop_map(|at| Step::Flush { at }),
        8 => (at.clone(), at.clone()).prop_map(|(from, to)| Step::Deliver { from, to }),
        3 => (at.clone(), at.clone()).prop_map(|(from, to)| Step::Lose { from, to }),
        1 => at.prop_map(|at| Step::Missed { at }),
        5 => (1u64..4000).prop_map(|millis| Step::Pass { millis }),
    ];
    prop::collection::vec(step, 1..150)
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Begin { at, link, user, name } => {
                self.begin(at, link, &format!("user {user}"), &format!("name {name}"));
            }
            Step::Part { at, link } => drop(self.next_part(at, link)),
            Step::Leave { at, session } => {
                let sessions = self.instances[at].sessions.len();
                if sessions > 0 {
                    self.leave(at, session.index(sessions));
                }
            }
            Step::Flush { at } => drop(self.flush(at)),
            Step::Deliver { from, to } => drop(self.deliver(from, to)),
            Step::Lose { from, to } => {
                self.on_the_way.get_mut(&(from, to)).map(VecDeque::pop_front);
            }
            Step::Missed { at } => {
                if let Some(ask) = self.instances[at].state.ask_all(self.now.timer) {
                    self.say(at, Said::Ask(ask));
                }
            }
            Step::Pass { millis } => self.pass(Duration::from_millis(millis)),
        }
    }

    fn check_views(&self) {
        for (at, instance) in self.instances.iter().enumerate() {
            for view in instance.views.values().filter(|view| view.is_whole) {
                assert_eq!(view.users, self.told(at));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn losses_are_made_good(steps in steps()) {
        let mut world = World::new(INSTANCES);
        for step in steps {
            world.take(step);
            world.check_views();
        }
        for at in 0..INSTANCES {
            let links: Vec<u8> = world.instances[at].views.keys().copied().collect();
            for link in links {
                while world.next_part(at, link) {}
            }
        }
        world.settle(TERMS.lease);
        world.check_views();
        let online: BTreeSet<String> = world
            .instances
            .iter()
            .flat_map(|instance| instance.sessions.iter().map(|(_, user_id)| user_id.to_string()))
            .collect();
        for at in 0..INSTANCES {
            let told = world.told(at);
            prop_assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), online.clone());
            prop_assert_eq!(told, world.told(0));
            prop_assert_eq!(world.instances[at].state.roster.count(), online.len());
            prop_assert_eq!(world.instances[at].state.roster.page("", usize::MAX).len(), online.len());
        }
    }
}
