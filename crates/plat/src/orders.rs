//! What the running daemon is told to do: a queue, and an answer to each.

use plat_host::DrainOrder;
use tokio::sync::{mpsc, oneshot};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Read the file again.
    Reload,
    /// Take no new subscribers.
    Drain(DrainOrder),
    /// Take them again.
    Resume,
    /// Look at the tables: sessions have come.
    Look,
}

/// An order, and where its outcome goes.
pub(crate) type Given = (Order, oneshot::Sender<Result<String, String>>);
/// The queue of orders.
pub(crate) type Orders = mpsc::Sender<Given>;

/// Gives an order to the daemon, and waits for what comes of it.
pub(crate) async fn give(orders: &Orders, order: Order) -> Result<String, String> {
    let (sender, receiver) = oneshot::channel();
    let gone = "the daemon is ending";
    orders.send((order, sender)).await.map_err(|_| gone)?;
    receiver.await.map_err(|_| gone)?
}
