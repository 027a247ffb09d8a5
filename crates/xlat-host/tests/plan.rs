//! The host plan against the kernel: carried out, undone, interrupted, and in the way of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::inspect::{Facts, difference, inspect};
use lab::installed::PATIENCE;
use lab::link::{add_address, join, wait_for_link_local};
use lab::namespace::Namespace;
use lab::nft::{NFT, nft};
use lab::suite::Test;
use rustix::net::{SendFlags, netlink, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use xlat_host::host::{Error, Host, Plan, Route};
use xlat_host::nft::{Interface, Table};

const TESTS: &[Test] = lab::tests![
    what_a_plan_changes_is_undone,
    a_failure_half_way_undoes_what_was_done,
    what_belongs_to_others_is_refused_and_stays,
    a_journal_left_behind_is_taken_back_by_recover,
    a_journal_left_behind_is_taken_back_by_the_next_start,
    a_parameter_that_somebody_else_changed_is_left_alone,
    a_second_process_is_refused,
    a_route_that_was_taken_away_is_put_back,
    a_table_that_has_gone_is_made_again,
    others_cannot_touch_a_table_and_another_takes_its_place_without_a_gap,
    cl_05_an_address_that_nobody_has_is_claimed_and_not_kept,
    cl_05_an_address_that_another_host_has_is_refused,
];

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[
            ("a_table_that_has_gone_is_made_again", NFT),
            (
                "others_cannot_touch_a_table_and_another_takes_its_place_without_a_gap",
                NFT,
            ),
        ],
    )
}

const DEV: &str = "eth0";
const JOURNAL: &str = "test";
const FORWARD: &str = "net.ipv4.conf.eth0.forwarding";

/// A host, its neighbour on the link `eth0`, and a run directory.
struct Fixture {
    host: Namespace,
    neighbour: Namespace,
    run_dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Result<Self> {
        let (host, neighbour) = (Namespace::new("host")?, Namespace::new("neighbour")?);
        join((&host, DEV), (&neighbour, DEV), 1500)?;
        wait_for_link_local(&host, PATIENCE)?;
        let run_dir = tempfile::tempdir()?;
        Ok(Self {
            host,
            neighbour,
            run_dir,
        })
    }

    /// Runs `work` as a process on the host would, in a runtime of its own.
    fn on_host<T: Send>(
        &self,
        work: impl AsyncFnOnce(Host, &Path) -> Result<T, Error> + Send,
    ) -> Result<Result<T, Error>> {
        let run_dir = self.run_dir.path();
        self.host.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(async { work(Host::connect()?, run_dir).await }))
        })
    }

    fn facts(&self) -> Result<Facts> {
        inspect(&self.host)
    }

    fn forwarding(&self) -> Result<String> {
        self.host.sysctl("ipv4/conf/eth0/forwarding")
    }
}

fn to(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, last)
}

fn plan() -> Plan {
    let mut plan = Plan::new();
    plan.sysctl(FORWARD, "1")
        .address(DEV, Ipv4Addr::new(192, 0, 2, 1), 24)
        .route(Route::new(to(0), 24, DEV).metric(77).mtu(1400));
    plan
}

#[track_caller]
fn assert_same(before: &Facts, after: &Facts) {
    assert_eq!(difference(before, after), [""; 0]);
}

fn what_a_plan_changes_is_undone() -> Result<()> {
    let fixture = Fixture::new()?;
    let before = fixture.facts()?;
    let during = fixture.on_host(async |host, run_dir| {
        let applied = host.apply(&plan(), run_dir, JOURNAL).await?;
        let snapshot = host.snapshot().await?;
        let way = host.way(to(9).into()).await?;
        applied.undo().await?;
        Ok((snapshot, way.src))
    })??;
    assert!(
        during
            .0
            .contains("sysctl net.ipv4.conf.eth0.forwarding = 1"),
        "{}",
        during.0
    );
    assert_eq!(during.1, Some(IpAddr::from([192, 0, 2, 1])));
    assert_same(&before, &fixture.facts()?);
    ensure!(
        std::fs::read_dir(fixture.run_dir.path())?.next().is_none(),
        "the journal is gone"
    );
    Ok(())
}

fn a_failure_half_way_undoes_what_was_done() -> Result<()> {
    let fixture = Fixture::new()?;
    let before = fixture.facts()?;
    let mut plan = plan();
    plan.route(Route::new(to(0), 24, "nowhere0"));
    let failed =
        fixture.on_host(async |host, run_dir| host.apply(&plan, run_dir, JOURNAL).await)?;
    assert!(matches!(failed, Err(Error::NoLink(_))), "{failed:?}");
    assert_same(&before, &fixture.facts()?);
    Ok(())
}

fn what_belongs_to_others_is_refused_and_stays() -> Result<()> {
    let fixture = Fixture::new()?;
    add_address((&fixture.host, DEV), "192.0.2.1/24".parse()?)?;
    let before = fixture.facts()?;
    let refused =
        fixture.on_host(async |host, run_dir| host.apply(&plan(), run_dir, JOURNAL).await)?;
    let Err(error @ Error::Exists { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().contains("not ours"), "{error}");
    assert_same(&before, &fixture.facts()?);
    Ok(())
}

/// Carries the plan out and drops it, which is all that a killed process does.
fn leave_behind(fixture: &Fixture) -> Result<()> {
    fixture
        .on_host(async |host, run_dir| host.apply(&plan(), run_dir, JOURNAL).await.map(drop))??;
    ensure!(fixture.forwarding()? == "1");
    Ok(())
}

fn a_journal_left_behind_is_taken_back_by_recover() -> Result<()> {
    let fixture = Fixture::new()?;
    let before = fixture.facts()?;
    leave_behind(&fixture)?;
    let recover = async |host: Host, run_dir: &Path| host.recover(run_dir, JOURNAL).await;
    assert_eq!(fixture.on_host(recover)??, 3);
    assert_same(&before, &fixture.facts()?);
    assert_eq!(
        fixture.on_host(recover)??,
        0,
        "a second time there is nothing to do"
    );
    Ok(())
}

fn a_journal_left_behind_is_taken_back_by_the_next_start() -> Result<()> {
    let fixture = Fixture::new()?;
    let before = fixture.facts()?;
    leave_behind(&fixture)?;
    fixture.on_host(async |host, run_dir| {
        host.apply(&plan(), run_dir, JOURNAL).await?.undo().await
    })??;
    assert_same(&before, &fixture.facts()?);
    Ok(())
}

fn a_parameter_that_somebody_else_changed_is_left_alone() -> Result<()> {
    let fixture = Fixture::new()?;
    let key = "net.ipv4.conf.eth0.rp_filter";
    let mut plan = Plan::new();
    plan.sysctl(key, "1");
    fixture
        .on_host(async |host, run_dir| host.apply(&plan, run_dir, JOURNAL).await.map(drop))??;
    fixture.host.set_sysctl("ipv4/conf/eth0/rp_filter", "2")?;
    fixture.on_host(async |host, run_dir| host.recover(run_dir, JOURNAL).await)??;
    assert_eq!(fixture.host.sysctl("ipv4/conf/eth0/rp_filter")?, "2");
    Ok(())
}

fn a_second_process_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let second = fixture.on_host(async |host, run_dir| {
        let first = host.apply(&plan(), run_dir, JOURNAL).await?;
        let second = host.recover(run_dir, JOURNAL).await;
        let other = host.apply(&Plan::new(), run_dir, "other").await?;
        other.undo().await?;
        first.undo().await?;
        Ok(second)
    })??;
    assert!(matches!(second, Err(Error::Running(_))), "{second:?}");
    Ok(())
}

fn a_route_that_was_taken_away_is_put_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let repairs = fixture.on_host(async |host, run_dir| {
        let plan = plan();
        let mut applied = host.apply(&plan, run_dir, JOURNAL).await?;
        let nothing = applied.reconcile(&plan).await?.into_result()?;
        // Another journal's undo takes our route away.
        let mut route = Plan::new();
        route.route(Route::new(to(0), 24, DEV).metric(77).mtu(1400));
        host.apply(&route, run_dir, "other").await?.undo().await?;
        let repairs = applied.reconcile(&plan).await?.into_result()?;
        let way = host.way(to(9).into()).await;
        applied.undo().await?;
        Ok((nothing, repairs, way.is_ok()))
    })??;
    assert_eq!(repairs, (0, 1, true));
    Ok(())
}

const TABLE: &str = "xlat_test";

/// Held by a test that makes a table: each of them is the only one in this process with a socket
/// to nftables.
static NFTABLES: Mutex<()> = Mutex::new(());

/// A plan with a table that gives packets from 192.0.2.`last` the address of the link.
fn table_plan(last: u8) -> Plan {
    let source = Ipv4Addr::new(192, 0, 2, last);
    let mut plan = Plan::new();
    plan.table(Table::masquerade(
        TABLE,
        &[source..=source],
        &[Interface::Only(DEV.into())],
    ));
    plan
}

/// The last bytes of the addresses that `TABLE` has rules for, of 1 and 2.
fn masqueraded(fixture: &Fixture) -> Vec<u8> {
    let rules = nft(&fixture.host, "list ruleset").expect("nft lists the rules");
    let has_rule = |last: &u8| rules.contains(&format!("192.0.2.{last} masquerade"));
    [1, 2].into_iter().filter(has_rule).collect()
}

/// Deletes `TABLE` through the socket that made it: the kernel refuses every other one.
fn delete_as_owner() -> Result<()> {
    const IPV4: u8 = 2;
    const SUBSYSTEM: u16 = 10;
    const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
    const BATCH_BEGIN: u16 = 16;
    const BATCH_END: u16 = 17;
    let message = |kind: u16, family: u8, resource: u16, payload: &[u8]| {
        let length = 20 + payload.len() as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([1_u16.to_ne_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].as_flattened());
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(payload);
        bytes
    };
    let mut name = (4 + TABLE.len() as u16 + 1).to_ne_bytes().to_vec();
    name.extend(1_u16.to_ne_bytes());
    name.extend(TABLE.bytes());
    name.resize((name.len() + 1).next_multiple_of(4), 0);
    let batch = [
        message(BATCH_BEGIN, 0, SUBSYSTEM, &[]),
        message(DELETE_TABLE, IPV4, 0, &name),
        message(BATCH_END, 0, SUBSYSTEM, &[]),
    ];

    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let owner = std::fs::read_dir("/proc/self/fd")?.find_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let copy = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let protocol = sockopt::socket_protocol(&copy).ok()?;
        (protocol == Some(netlink::NETFILTER)).then_some(copy)
    });
    let owner = owner.context("this process has no socket to nftables")?;
    rustix::net::send(owner, &batch.concat(), SendFlags::empty())?;
    Ok(())
}

fn a_table_that_has_gone_is_made_again() -> Result<()> {
    let _alone = NFTABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let fixture = Fixture::new()?;
    fixture
        .on_host(async |host, run_dir| {
            let plan = table_plan(1);
            let mut applied = host.apply(&plan, run_dir, JOURNAL).await?;
            assert_eq!(applied.reconcile(&plan).await?.into_result()?, 0);
            delete_as_owner().expect("the owner may delete its table");
            assert_eq!(masqueraded(&fixture), [0; 0], "it has gone");
            assert_eq!(applied.reconcile(&plan).await?.into_result()?, 1);
            assert_eq!(masqueraded(&fixture), [1]);
            assert_eq!(applied.reconcile(&plan).await?.into_result()?, 0);
            applied.undo().await
        })?
        .map_err(Into::into)
}

fn others_cannot_touch_a_table_and_another_takes_its_place_without_a_gap() -> Result<()> {
    let _alone = NFTABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let fixture = Fixture::new()?;
    fixture.on_host(async |host, run_dir| {
        let (one, two) = (table_plan(1), table_plan(2));
        let mut applied = host.apply(&one, run_dir, JOURNAL).await?;
        nft(&fixture.host, "flush ruleset").expect("nft flushes the tables it may");
        assert!(nft(&fixture.host, &format!("delete table ip {TABLE}")).is_err());
        assert!(nft(&fixture.host, &format!("flush table ip {TABLE}")).is_err());
        assert_eq!(applied.reconcile(&one).await?.into_result()?, 0);
        assert_eq!(masqueraded(&fixture), [1]);

        let difference = one.difference(&two);
        applied.bring(&difference).await?;
        assert_eq!(masqueraded(&fixture), [1, 2]);
        applied.retire(&difference).await?;
        assert_eq!(masqueraded(&fixture), [2]);
        applied.undo().await
    })??;
    // The kernel deletes it a moment after its owner's socket is closed.
    let end = Instant::now() + PATIENCE;
    while nft(&fixture.host, "list ruleset")?.contains(TABLE) {
        ensure!(Instant::now() < end, "the table is still there");
    }
    Ok(())
}

const CLAIMED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xc1a7);

/// Claims an address with duplicate address detection switched on.
fn claim(fixture: &Fixture) -> Result<Result<(), Error>> {
    fixture.host.set_sysctl("ipv6/conf/all/accept_dad", "1")?;
    fixture.host.set_sysctl("ipv6/conf/eth0/accept_dad", "1")?;
    let mut plan = Plan::new();
    plan.claim(DEV, CLAIMED);
    let before = fixture.facts()?;
    let claimed = fixture
        .on_host(async |host, run_dir| host.apply(&plan, run_dir, JOURNAL).await?.undo().await)?;
    assert_same(&before, &fixture.facts()?);
    Ok(claimed)
}

fn cl_05_an_address_that_nobody_has_is_claimed_and_not_kept() -> Result<()> {
    let fixture = Fixture::new()?;
    Ok(claim(&fixture)??)
}

fn cl_05_an_address_that_another_host_has_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    add_address((&fixture.neighbour, DEV), format!("{CLAIMED}/64").parse()?)?;
    let refused = claim(&fixture)?;
    assert!(
        matches!(refused, Err(Error::Duplicate { .. })),
        "{refused:?}"
    );
    Ok(())
}
