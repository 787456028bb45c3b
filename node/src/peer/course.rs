//! Where a dialler is to dial: the one thing of it that changes while it runs.

use tokio::sync::watch;

/// Set from anywhere, awaited by the dialler. Only the last word counts, so words that come fast cost nothing.
#[derive(Debug)]
pub(super) struct Course {
    order: watch::Sender<Order>,
    /// Word that the node lives.
    sign: watch::Sender<()>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// Dial this address.
    Dial(String),
    /// Dial no more, for this reason.
    Stop(String),
}

impl Course {
    pub(super) fn new(address: &str) -> Self {
        Self {
            order: watch::Sender::new(Order::Dial(address.to_owned())),
            sign: watch::Sender::new(()),
        }
    }

    /// From now on this address; nothing happens if it is this one already.
    pub(super) fn redirect(&self, address: &str) {
        self.set(Order::Dial(address.to_owned()));
    }

    /// From now on nothing. The reason is for the peer.
    pub(super) fn stop(&self, reason: &str) {
        self.set(Order::Stop(reason.to_owned()));
    }

    /// Somebody has heard of the node: an attempt is worth its while now.
    pub(super) fn give_sign(&self) {
        self.sign.send_replace(());
    }

    /// Waits for the next sign of life.
    pub(super) async fn sign(&self) {
        // The sender lives in self, which outlives this call.
        let _sent = self.sign.subscribe().changed().await;
    }

    /// What is to be dialled now, if anything is.
    pub(super) fn address(&self) -> Option<String> {
        match &*self.order.borrow() {
            Order::Dial(address) => Some(address.clone()),
            Order::Stop(_) => None,
        }
    }

    pub(super) fn leads_to(&self, address: &str) -> bool {
        matches!(&*self.order.borrow(), Order::Dial(wanted) if wanted == address)
    }

    /// Waits until an address is no longer to be dialled. Returns why, for the peer.
    pub(super) async fn left(&self, address: &str) -> String {
        let mut orders = self.order.subscribe();
        loop {
            match orders.borrow_and_update().clone() {
                Order::Dial(wanted) if wanted == address => {}
                Order::Dial(wanted) => {
                    return format!("the node is dialled at {wanted} from now on");
                }
                Order::Stop(reason) => return reason,
            }
            // The sender lives in self, which outlives this call.
            orders.changed().await.expect("the sender is borrowed here");
        }
    }

    fn set(&self, order: Order) {
        self.order.send_if_modified(|current| {
            let is_new = *current != order;
            *current = order;
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_course_is_left_for_another_address_and_for_good() {
        let course = Course::new("a:1");
        course.redirect("a:1");
        assert!(course.leads_to("a:1"));
        course.redirect("b:1");
        assert_eq!(course.address().as_deref(), Some("b:1"));
        assert!(course.left("a:1").await.contains("b:1"));
        course.stop("it left");
        assert_eq!(course.left("b:1").await, "it left");
        assert_eq!(course.address(), None);
    }

    #[tokio::test]
    async fn a_sign_of_life_wakes_who_waits_for_one_and_not_who_comes_later() {
        let course = Course::new("a:1");
        course.give_sign();
        let mut sign = std::pin::pin!(course.sign());
        tokio::select! { biased;
            () = &mut sign => panic!("a sign from before"),
            () = std::future::ready(()) => {}
        }
        course.give_sign();
        sign.await;
    }
}
