//! The administrator's bindings: how they come while packets pass, and how they go.
//!
//! Both take several steps, because no worker may wait for long. Meanwhile they are closed: what
//! runs goes on, and nothing begins.

use xlat_core::Instant;

use super::{PART, Shard};
use crate::config::StaticBinding;
use crate::table::bib::{Binding, BindingState};
use crate::table::slab::NONE;
use crate::tuple::Inside;

impl Shard {
    /// Adds a binding before the first packet; false if there is no room or one of its transport
    /// addresses is taken.
    pub(crate) fn add_static(&mut self, binding: &StaticBinding) -> bool {
        let is_taken = self.in_the_way(binding).next().is_some();
        !is_taken && self.insert_static(binding, BindingState::Static)
    }

    /// Bindings that share a transport address with this one.
    pub(crate) fn in_the_way(&self, binding: &StaticBinding) -> impl Iterator<Item = &Binding> {
        let inside = self.bib.of_inside(binding.inside());
        let outside = self.bib.of_outside(binding.outside());
        let both = inside.into_iter().chain(outside);
        both.map(|handle| self.bib.binding(handle))
    }

    /// Adds a closed binding, unless the client's side of it is in use; false then, or if there is
    /// no room.
    pub(crate) fn announce(&mut self, binding: &StaticBinding) -> bool {
        let is_free = self.bib.of_inside(binding.inside()).is_none();
        is_free && self.insert_static(binding, BindingState::Closed)
    }

    /// Lets sessions begin on a binding, or keeps them from it.
    pub(crate) fn set_binding_state(&mut self, inside: Inside, state: BindingState) {
        if let Some(handle) = self.static_binding(inside) {
            self.bib.binding_mut(handle).state = state;
        }
    }

    /// Ends some of the sessions of a closed binding; where to go on, if there are more. Holds up
    /// no worker for long.
    pub(crate) fn withdraw(&mut self, inside: Inside, start: u32, now: Instant) -> Option<u32> {
        let handle = self.static_binding(inside)?;
        if self.bib.binding(handle).sessions == 0 {
            return None;
        }
        let (part, next) = self.sessions.part(start, PART);
        let its = part.filter(|(_, session)| session.binding == handle);
        let its: Vec<u32> = its.map(|(number, _)| number).collect();
        for number in its {
            self.close_session(number, now);
        }
        next
    }

    /// Forgets a closed binding without sessions. With another one for the same client's side it
    /// takes its place at once, closed too.
    pub(crate) fn replace(&mut self, inside: Inside, other: Option<&StaticBinding>) {
        let Some(handle) = self.static_binding(inside) else {
            return;
        };
        self.bib.remove(handle);
        if let Some(other) = other {
            self.insert_static(other, BindingState::Closed);
        }
    }

    /// The binding, if something may begin on it.
    pub(super) fn open_binding(&self, binding: Option<u32>) -> Option<u32> {
        binding.filter(|&handle| self.bib.binding(handle).state != BindingState::Closed)
    }

    /// True if anyone may send to it, whatever the filtering: the administrator's will, or the
    /// client's.
    pub(super) fn is_open(&self, binding: u32) -> bool {
        let state = self.bib.binding(binding).state;
        matches!(state, BindingState::Static | BindingState::Open)
    }

    fn static_binding(&self, inside: Inside) -> Option<u32> {
        let handle = self.bib.of_inside(inside)?;
        let state = self.bib.binding(handle).state;
        matches!(state, BindingState::Static | BindingState::Closed).then_some(handle)
    }

    fn insert_static(&mut self, binding: &StaticBinding, state: BindingState) -> bool {
        let made = Binding::new(binding.inside(), binding.outside(), NONE);
        self.bib.insert(made.of_admin(state)).is_some()
    }
}
