//! Who is here, who is elsewhere, and who was told of it. Pure.
//!
//! Ids and names are shared between the maps: a user of this instance costs about 300 bytes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use switchboard_chassis::Micros;
use tokio::time::Instant;
use uuid::Uuid;

/// Shared by all that name the user.
pub(crate) type UserId = Arc<str>;

/// A moment: for deadlines, and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) timer: Instant,
    pub(crate) clock: Micros,
}

/// The name of a user, and since when. Instances that know different names of one user all show the latest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) since: Micros,
    pub(crate) text: Arc<str>,
}

/// A user who is online now, and as what; or, with nothing, one who is not.
pub(crate) type Change<N> = (UserId, Option<N>);

/// A user of this instance.
struct Own {
    name: Name,
    stay: Stay,
    /// Whether the other instances heard of the user, under whatever name.
    is_published: bool,
    /// The user was erased in the grace: it is not noted when that was over.
    is_forgotten: bool,
}

enum Stay {
    /// So many sessions; at least one.
    Open(usize),
    /// The last one left then; the grace is not over.
    Left(Now),
}

/// Who is online, as this instance knows it.
pub(crate) struct Roster {
    grace: Duration,
    own: BTreeMap<UserId, Own>,
    /// Whom other instances have.
    elsewhere: BTreeMap<Uuid, BTreeMap<UserId, Name>>,
    /// What the streams were told: who is online, and as what.
    told: BTreeMap<UserId, Arc<str>>,
    /// Whose state may differ from what was told.
    untold: BTreeSet<UserId>,
    /// Whose state here may differ from what the other instances were told.
    unpublished: BTreeSet<UserId>,
    /// When a grace is over. The grace is constant, so these are in order; who came back meanwhile is still here.
    leavers: VecDeque<(Instant, UserId)>,
    /// Since when there has been something to tell.
    changed_at: Option<Instant>,
}

impl Roster {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            own: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            told: BTreeMap::new(),
            untold: BTreeSet::new(),
            unpublished: BTreeSet::new(),
            leavers: VecDeque::new(),
            changed_at: None,
        }
    }

    /// When there is something to do: to tell, or to let go.
    pub(crate) fn due(&self) -> Option<Instant> {
        let over_at = self.leavers.front().map(|(at, _)| *at);
        [self.changed_at, over_at].into_iter().flatten().min()
    }

    /// A session of a user opened here; true when the user was not here, not even in the grace.
    pub(crate) fn enter(&mut self, user_id: &str, name: &str, now: Now) -> (UserId, bool) {
        let user_id = self.shared(user_id);
        let is_shown = self.name(&user_id).is_some_and(|shown| &*shown.text == name);
        let renamed = || {
            let text = if *user_id == *name { user_id.clone() } else { Arc::from(name) };
            Name { since: now.clock, text }
        };
        let is_new = match self.own.get_mut(&user_id) {
            Some(own) => {
                own.stay = match own.stay {
                    Stay::Open(sessions) => Stay::Open(sessions + 1),
                    Stay::Left(_) => Stay::Open(1),
                };
                own.is_forgotten = false;
                if is_shown && &*own.name.text == name {
                    return (user_id, false);
                }
                own.name = renamed();
                false
            }
            None => {
                let own = Own { name: renamed(), stay: Stay::Open(1), is_published: false, is_forgotten: false };
                self.own.insert(user_id.clone(), own);
                true
            }
        };
        self.unpublished.insert(user_id.clone());
        self.touch(user_id.clone(), now.timer);
        (user_id, is_new)
    }

    /// A session of a user ended here.
    pub(crate) fn leave(&mut self, user_id: &UserId, now: Now) {
        let Some(own) = self.own.get_mut(user_id) else { return };
        own.stay = match own.stay {
            Stay::Open(1) => {
                self.leavers.push_back((now.timer + self.grace, user_id.clone()));
                Stay::Left(now)
            }
            Stay::Open(sessions) => Stay::Open(sessions - 1),
            Stay::Left(left) => Stay::Left(left),
        };
    }

    /// Who is in the grace now is not noted when it is over.
    pub(crate) fn forget(&mut self, user_id: &str) {
        if let Some(own) = self.own.get_mut(user_id) {
            own.is_forgotten = matches!(own.stay, Stay::Left(_));
        }
    }

    /// Lets those go whose grace is over, and says when their last sessions left.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<(UserId, Micros)> {
        let mut gone = Vec::new();
        while let Some((over_at, user_id)) = self.leavers.pop_front_if(|(over_at, _)| *over_at <= now.timer) {
            let Some(Own { stay: Stay::Left(left), is_published, is_forgotten, .. }) = self.own.get(&user_id) else {
                continue;
            };
            // Who came back and left again has a later place, too.
            if left.timer + self.grace > over_at {
                continue;
            }
            if !is_forgotten {
                gone.push((user_id.clone(), left.clock));
            }
            if *is_published {
                self.unpublished.insert(user_id.clone());
            } else {
                self.unpublished.remove(&user_id);
            }
            self.own.remove(&user_id);
            self.touch(user_id, now.timer);
        }
        gone
    }

    /// Another instance's users came and went.
    pub(crate) fn change_elsewhere(&mut self, instance: Uuid, changes: Vec<Change<Name>>, now: Instant) {
        for (user_id, name) in changes {
            let user_id = self.shared(&user_id);
            let theirs = self.elsewhere.entry(instance).or_default();
            match name {
                Some(name) => theirs.insert(user_id.clone(), name),
                None => theirs.remove(&user_id),
            };
            self.touch(user_id, now);
        }
    }

    /// Another instance has these users and no others.
    pub(crate) fn replace_elsewhere(&mut self, instance: Uuid, users: BTreeMap<UserId, Name>, now: Instant) {
        let users: BTreeMap<UserId, Name> =
            users.into_iter().map(|(user_id, name)| (self.shared(&user_id), name)).collect();
        let before = self.elsewhere.remove(&instance).unwrap_or_default();
        for (user_id, name) in &users {
            if before.get(user_id) != Some(name) {
                self.touch(user_id.clone(), now);
            }
        }
        for user_id in before.into_keys() {
            if !users.contains_key(&user_id) {
                self.touch(user_id, now);
            }
        }
        self.elsewhere.insert(instance, users);
    }

    /// Another instance is gone: gives back whom it had.
    pub(crate) fn drop_elsewhere(&mut self, instance: Uuid, now: Instant) -> Vec<UserId> {
        let users: Vec<UserId> = self.elsewhere.remove(&instance).unwrap_or_default().into_keys().collect();
        for user_id in &users {
            self.touch(user_id.clone(), now);
        }
        users
    }

    /// What the streams must be told, in the order of the ids; from now on, they were.
    pub(crate) fn take_untold(&mut self) -> Vec<Change<Arc<str>>> {
        self.changed_at = None;
        let mut changes = Vec::new();
        for user_id in std::mem::take(&mut self.untold) {
            let name = self.name(&user_id).map(|name| name.text.clone());
            if self.told.get(&user_id) == name.as_ref() {
                continue;
            }
            match &name {
                Some(name) => self.told.insert(user_id.clone(), name.clone()),
                None => self.told.remove(&user_id),
            };
            changes.push((user_id, name));
        }
        changes
    }

    /// What the other instances must be told of this one's users; from now on, they were.
    pub(crate) fn take_unpublished(&mut self) -> Vec<Change<Name>> {
        let unpublished = std::mem::take(&mut self.unpublished);
        let change = |user_id: UserId| match self.own.get_mut(&user_id) {
            Some(own) => {
                own.is_published = true;
                (user_id, Some(own.name.clone()))
            }
            None => (user_id, None),
        };
        unpublished.into_iter().map(change).collect()
    }

    /// The name under which a user is online, if the user is.
    pub(crate) fn name(&self, user_id: &str) -> Option<&Name> {
        let here = self.own.get(user_id).map(|own| &own.name);
        here.into_iter().chain(self.elsewhere.values().filter_map(|theirs| theirs.get(user_id))).max()
    }

    /// How many of them are so over this instance.
    pub(crate) fn count_here(&self) -> usize {
        self.own.len()
    }

    /// How many are online.
    pub(crate) fn count(&self) -> usize {
        let settled = self.told.len() - self.untold.iter().filter(|id| self.told.contains_key(*id)).count();
        settled + self.untold.iter().filter(|id| self.name(id).is_some()).count()
    }

    /// At most so many of those who are online, after an id, in the order of the ids.
    pub(crate) fn page(&self, after: &str, size: usize) -> Vec<(UserId, Arc<str>)> {
        let told = self.told.range::<str, _>(beyond(Some(after))).filter(|(id, _)| !self.untold.contains(*id));
        let untold = self.untold.range::<str, _>(beyond(Some(after)));
        let untold = untold.filter_map(|id| Some((id, &self.name(id)?.text)));
        // The first of both are the first of each.
        let mut page: Vec<_> = told.take(size).chain(untold.take(size)).collect();
        page.sort_unstable();
        page.truncate(size);
        page.into_iter().map(|(id, name)| (id.clone(), name.clone())).collect()
    }

    /// A part of what the streams were told: at most so many, after an id, in the order of the ids; and whether it is
    /// the last.
    pub(crate) fn told_part(&self, after: Option<&str>, size: usize) -> (Vec<(&UserId, &Arc<str>)>, bool) {
        part(self.told.range::<str, _>(beyond(after)), size)
    }

    /// The same of those whom this instance has, as far as the other instances were told.
    pub(crate) fn own_part(&self, after: Option<&str>, size: usize) -> (Vec<(&UserId, &Name)>, bool) {
        let published = self.own.range::<str, _>(beyond(after)).filter(|(_, own)| own.is_published);
        let (own, is_last) = part(published, size);
        (own.into_iter().map(|(user_id, own)| (user_id, &own.name)).collect(), is_last)
    }

    /// Whom this instance has, and when each was last online.
    pub(crate) fn own_seen(&self, now: Now) -> Vec<(UserId, Micros)> {
        let seen = |own: &Own| match own.stay {
            Stay::Open(_) => now.clock,
            Stay::Left(left) => left.clock,
        };
        let known = self.own.iter().filter(|(_, own)| !own.is_forgotten);
        known.map(|(user_id, own)| (user_id.clone(), seen(own))).collect()
    }

    fn touch(&mut self, user_id: UserId, now: Instant) {
        self.untold.insert(user_id);
        self.changed_at.get_or_insert(now);
    }

    /// The one copy of an id that is known already.
    fn shared(&self, user_id: &str) -> UserId {
        let own = self.own.get_key_value(user_id).map(|(id, _)| id);
        let known = own.or_else(|| self.told.get_key_value(user_id).map(|(id, _)| id));
        known.or_else(|| self.untold.get(user_id)).cloned().unwrap_or_else(|| Arc::from(user_id))
    }
}

fn beyond(after: Option<&str>) -> (Bound<&str>, Bound<&str>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn part<T>(mut rest: impl Iterator<Item = T>, size: usize) -> (Vec<T>, bool) {
    let part = rest.by_ref().take(size).collect();
    (part, rest.next().is_none())
}
