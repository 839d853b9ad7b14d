//! The sessions that hear of the same thing, by link.

use switchboard_proto::wire::Wire;

use crate::{Asker, Link};

/// Who is told. An event is one frame for each link, however many sessions of it there are.
#[derive(Debug)]
pub struct Audience<W: Wire> {
    links: Vec<(Link<W>, Vec<u64>)>,
}

impl<W: Wire> Default for Audience<W> {
    fn default() -> Self {
        Self { links: Vec::new() }
    }
}

impl<W: Wire> Audience<W> {
    /// Adds a session.
    pub fn enter(&mut self, link: &Link<W>, session: u64) {
        match self.links.iter_mut().find(|(theirs, _)| theirs == link) {
            Some((_, sessions)) => sessions.push(session),
            None => self.links.push((link.clone(), vec![session])),
        }
    }

    /// Removes a session; false when it was not there.
    pub fn leave(&mut self, link: &Link<W>, session: u64) -> bool {
        let Some(place) = self.links.iter().position(|(theirs, _)| theirs == link) else { return false };
        let sessions = &mut self.links[place].1;
        let before = sessions.len();
        sessions.retain(|theirs| *theirs != session);
        let was_there = sessions.len() < before;
        if sessions.is_empty() {
            self.links.swap_remove(place);
        }
        was_there
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Tells everybody. The asker's answer rides on its link's frame; `answered` is what an asker is told who is not
    /// here (any more).
    pub fn tell(&self, event: &W::Event, asker: Option<&Asker<W>>, answered: impl FnOnce() -> W::Event) {
        let mut is_answered = false;
        for (link, sessions) in &self.links {
            let asker = asker.filter(|asker| asker.link == *link && sessions.contains(&asker.session));
            is_answered |= asker.is_some();
            link.tell(sessions.clone(), event.clone(), asker.and_then(Asker::answer));
        }
        if let (false, Some(asker)) = (is_answered, asker) {
            asker.tell(answered());
        }
    }
}
