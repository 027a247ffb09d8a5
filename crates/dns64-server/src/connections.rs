//! Connections of clients. When there are too many, idle ones make room (RFC 7766 section 6.2.3).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;
use xlat_core::Instant;

use crate::limits::{Client, client_share, network_share};

/// The open connections: some of all, fewer of one client and of one /64.
#[derive(Debug)]
pub(crate) struct Connections {
    open: RefCell<BTreeMap<u64, Open>>,
    next: Cell<u64>,
    most: usize,
}

#[derive(Debug)]
struct Open {
    client: Client,
    /// Since when it waits for a query; `None` while one is answered.
    idle_since: Option<Instant>,
    close: Rc<Notify>,
}

/// An open connection, forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    connections: Rc<Connections>,
    number: u64,
    close: Rc<Notify>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            next: Cell::new(0),
            most,
        })
    }

    /// A new connection of this client. If the client, its network or all have too many, closes the
    /// idle one among them of the client that has most, idle for longest; `None` if none is idle.
    pub(crate) fn open(self: &Rc<Self>, client: Client, now: Instant) -> Option<Connection> {
        let mut open = self.open.borrow_mut();
        if !make_room(&mut open, client_share(self.most), |one| {
            one.own == client.own
        }) || !make_room(&mut open, network_share(self.most), |one| {
            one.network == client.network
        }) || !make_room(&mut open, self.most, |_| true)
        {
            return None;
        }
        let number = self.next.replace(self.next.get() + 1);
        let close = Rc::new(Notify::new());
        let one = Open {
            client,
            idle_since: Some(now),
            close: Rc::clone(&close),
        };
        open.insert(number, one);
        Some(Connection {
            connections: Rc::clone(self),
            number,
            close,
        })
    }
}

/// Makes the number of these connections less than `most`; false if it cannot.
fn make_room(
    open: &mut BTreeMap<u64, Open>,
    most: usize,
    counts: impl Fn(&Client) -> bool,
) -> bool {
    let of = |client: &Client| {
        let all = open.values();
        all.filter(|one| one.client.own == client.own).count()
    };
    let among = open.iter().filter(|(_, one)| counts(&one.client));
    if among.clone().count() < most {
        return true;
    }
    let victim = among
        .filter_map(|(number, one)| Some((*number, one.client, one.idle_since?)))
        .max_by_key(|(_, client, since)| (of(client), std::cmp::Reverse(*since)));
    let Some((number, ..)) = victim else {
        return false;
    };
    if let Some(victim) = open.remove(&number) {
        victim.close.notify_one();
    }
    true
}

impl Connection {
    /// A query has come in, or been answered at this time.
    pub(crate) fn set_idle(&self, since: Option<Instant>) {
        let mut open = self.connections.open.borrow_mut();
        if let Some(one) = open.get_mut(&self.number) {
            one.idle_since = since;
        }
    }

    /// Waits until the connection must make room for another.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use xlat_core::addr::Ipv6Prefix;

    use super::*;

    fn client(host: u128) -> Client {
        let address = (0x2001_0db8_u128 << 96 | host).into();
        Client {
            own: Ipv6Prefix::containing(address, 128),
            network: Ipv6Prefix::containing(address, 64),
        }
    }

    fn count(connections: &Connections, host: u128) -> usize {
        let open = connections.open.borrow();
        let own = open.values().filter(|one| one.client == client(host));
        own.count()
    }

    #[test]
    fn fp_05_idle_connections_of_the_client_with_most_make_room() {
        let connections = Connections::new(16);
        let at = Instant::from_secs;
        // Each has 4, the network 12.
        let mut held: Vec<Connection> = (0..6)
            .filter_map(|second| connections.open(client(1), at(second)))
            .collect();
        assert_eq!((held.len(), count(&connections, 1)), (6, 4));
        for host in 2..6 {
            held.extend((0..2).filter_map(|_| connections.open(client(host), at(9))));
        }
        assert_eq!(connections.open.borrow().len(), 12);
        assert_eq!(count(&connections, 1), 4);
        held.extend(connections.open(client(6), at(10)));
        assert_eq!((count(&connections, 1), count(&connections, 6)), (3, 1));
        // Another network finds room beside them.
        held.extend(connections.open(client(1 << 64), at(11)));
        assert_eq!((held.len(), connections.open.borrow().len()), (16, 13));
        held.clear();
        assert!(connections.open.borrow().is_empty());
    }

    #[test]
    fn fp_05_a_connection_whose_query_is_being_answered_stays() {
        let connections = Connections::new(8);
        let now = Instant::from_secs(1);
        let busy = connections.open(client(1), now).unwrap();
        busy.set_idle(None);
        let idle = connections.open(client(1), now).unwrap();
        let third = connections.open(client(1), now).unwrap();
        third.set_idle(None);
        assert!(connections.open(client(1), now).is_none());
        // The one that was idle is gone, though its task has not noticed; its end changes nothing.
        drop(idle);
        assert_eq!(count(&connections, 1), 2);
        busy.set_idle(Some(now));
        assert!(connections.open(client(1), now).is_some());
    }
}
