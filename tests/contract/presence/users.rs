//! Users on several nodes: they come once, they go once, and all is told in order.

use std::time::Duration;

use vestibule::cluster::presence::Departure;

use super::{SOON, Told, a_while, of, three, user};
use crate::membership::until;
use crate::shared::Servers;

#[tokio::test]
async fn a_user_on_two_nodes_comes_once_and_goes_once() {
    let (servers, told) = (Servers::start(2), Told::default());
    let [a, b, c] = three(&servers, &told).await;
    a.came("ann", 1);
    b.came("ann", 2);
    until("ann is online", SOON, || of(&told, "ann") == "+").await;
    assert!(c.is_online("ann").await);
    a.went("ann", 1, Departure::Left);
    a_while().await;
    assert_eq!(of(&told, "ann"), "+");
    assert!(a.is_online("ann").await, "elsewhere");
    b.went("ann", 2, Departure::Lost);
    until("ann is offline", SOON, || of(&told, "ann") == "+-").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let states = c.presence.states(&[user("ann"), user("bob")]).await;
    assert!(!states[0].is_online && states[0].last_seen.is_some() && !states[0].is_stale);
    assert!(!states[1].is_online && states[1].last_seen.is_none());
    assert_eq!(told.lock().unwrap().len(), 2, "each once");
}

#[tokio::test]
async fn who_wanders_between_nodes_was_never_away_and_all_is_told_in_order() {
    let (servers, told) = (Servers::start(2), Told::default());
    let nodes = three(&servers, &told).await;
    for n in 0..30_u8 {
        let (from, to) = (&nodes[usize::from(n) % 3], &nodes[usize::from(n + 1) % 3]);
        to.came("ann", n + 1);
        if n > 0 {
            from.went("ann", n, Departure::Lost);
        }
        // Bob flickers, everywhere.
        from.came("bob", 100 + n);
        tokio::time::sleep(Duration::from_millis(15)).await;
        from.went("bob", 100 + n, Departure::Left);
    }
    a_while().await;
    assert_eq!(of(&told, "ann"), "+");
    // What was over before it was told is not told; what is told alternates, and ends with the truth.
    let bob = of(&told, "bob");
    assert!(
        bob.len().is_multiple_of(2) && bob == "+-".repeat(bob.len() / 2),
        "{bob}"
    );
    let keys = |n: usize| {
        servers.redis[n]
            .ask(&["ZCARD", &format!("{{vb{n}}}:po")])
            .unwrap()
    };
    assert_eq!([keys(0), keys(1)], ["0", "0"], "nothing is left to tell");
}
