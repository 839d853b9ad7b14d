//! What is done to the cluster.

use std::{fmt, time::Duration};

use tokio::time::sleep;

use crate::{
    cluster::{Cluster, LEASE, Node},
    postgres::Ending,
    scene::Dice,
};

const FROZEN: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(3);
/// More than any lease or delay, and less than tokens last.
const CLOCK_STEP_S: i64 = 300;
/// For so long each; the process notices within a second.
const STEPPED: Duration = Duration::from_secs(3);
const BEFORE_RESTART: Duration = Duration::from_secs(1);

/// What happens. Where there is a number, to the first or to the second of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`, and how long it is away.
    KillService(usize, Duration),
    KillEdge(usize, Duration),
    TerminateService(usize),
    TerminateEdge(usize),
    /// SIGSTOP, and after a while SIGCONT.
    FreezeService(usize),
    FreezeEdge(usize),
    FreezeNats(usize),
    KillNats(usize),
    /// Both nodes at once.
    NatsDown,
    /// The nodes run, and do not reach each other.
    NatsParted,
    RestartPostgres,
    CrashPostgres,
    /// Its clock goes five minutes ahead, then five minutes behind, then right again.
    StepServiceClock(usize),
    StepEdgeClock(usize),
    /// Every process, one after the other.
    RollingRestart,
}

use Fault::{
    CrashPostgres, FreezeEdge, FreezeNats, FreezeService, KillEdge, KillNats, KillService, NatsDown, NatsParted,
    RestartPostgres, RollingRestart, StepEdgeClock, StepServiceClock, TerminateEdge, TerminateService,
};

impl Fault {
    /// The few of a short run.
    pub(crate) fn few() -> Vec<Self> {
        vec![KillService(0, BEFORE_RESTART), TerminateEdge(1), NatsDown, RestartPostgres]
    }

    /// One of each kind, in an order and with details that the dice choose.
    pub(crate) fn all(dice: &mut Dice) -> Vec<Self> {
        // Back at once, soon, or when its lease is over.
        let aways = [Duration::ZERO, BEFORE_RESTART, LEASE + Duration::from_secs(2)];
        let mut which = || dice.below(2);
        let [a, b, c, d, e, f, g, h, i, j] = std::array::from_fn(|_| which());
        let mut all = vec![
            KillService(a, aways[dice.below(aways.len())]),
            KillEdge(b, aways[dice.below(aways.len())]),
            TerminateService(c),
            TerminateEdge(d),
            FreezeService(e),
            FreezeEdge(f),
            FreezeNats(g),
            KillNats(h),
            NatsDown,
            NatsParted,
            RestartPostgres,
            CrashPostgres,
            StepServiceClock(i),
            StepEdgeClock(j),
            RollingRestart,
        ];
        dice.shuffle(&mut all);
        all
    }

    /// Its kind, for the table.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            KillService(..) => "kill -9 of a service",
            KillEdge(..) => "kill -9 of an edge",
            TerminateService(_) => "SIGTERM of a service",
            TerminateEdge(_) => "SIGTERM of an edge",
            FreezeService(_) => "SIGSTOP of a service",
            FreezeEdge(_) => "SIGSTOP of an edge",
            FreezeNats(_) => "SIGSTOP of a NATS node",
            KillNats(_) => "kill -9 of a NATS node",
            NatsDown => "both NATS nodes down",
            NatsParted => "NATS partition",
            RestartPostgres => "Postgres restart",
            CrashPostgres => "Postgres crash",
            StepServiceClock(_) => "clock step of a service",
            StepEdgeClock(_) => "clock step of an edge",
            RollingRestart => "rolling restart",
        }
    }

    /// Which edges it concerns.
    pub(crate) fn edges(self) -> [bool; 2] {
        match self {
            KillEdge(n, _) | TerminateEdge(n) | FreezeEdge(n) => [n == 0, n == 1],
            RollingRestart => [true; 2],
            _ => [false; 2],
        }
    }

    /// Whether no socket may end by it: no edge is touched, and what a handshake needs is there.
    pub(crate) fn spares_sockets(self) -> bool {
        self.edges() == [false; 2] && !matches!(self, RestartPostgres | CrashPostgres)
    }

    /// Does it, and heals it. Gives the longest time from a SIGTERM to the end of its process.
    pub(crate) async fn strike(self, cluster: &mut Cluster) -> anyhow::Result<Duration> {
        match self {
            TerminateService(n) => return terminate(&mut cluster.services[n]).await,
            TerminateEdge(n) => return terminate(&mut cluster.edges[n]).await,
            RollingRestart => {
                let mut longest = Duration::ZERO;
                for node in cluster.nodes() {
                    longest = node.terminate().await?.max(longest);
                    node.start().await?;
                }
                return Ok(longest);
            }
            KillService(n, away) => kill(&mut cluster.services[n], away).await?,
            KillEdge(n, away) => kill(&mut cluster.edges[n], away).await?,
            KillNats(n) => kill(&mut cluster.nats[n], BEFORE_RESTART).await?,
            FreezeService(n) => freeze(&mut cluster.services[n]).await?,
            FreezeEdge(n) => freeze(&mut cluster.edges[n]).await?,
            FreezeNats(n) => freeze(&mut cluster.nats[n]).await?,
            NatsDown => {
                cluster.nats.iter_mut().try_for_each(Node::kill)?;
                sleep(AWAY).await;
                for node in &mut cluster.nats {
                    node.start().await?;
                }
            }
            StepServiceClock(n) => step_clock(&cluster.services[n]).await?,
            StepEdgeClock(n) => step_clock(&cluster.edges[n]).await?,
            NatsParted => {
                cluster.route.cut();
                sleep(AWAY).await;
                cluster.route.mend();
            }
            RestartPostgres => {
                cluster.postgres.stop(Ending::Fast).await?;
                cluster.postgres.start().await?;
            }
            CrashPostgres => {
                cluster.postgres.stop(Ending::Immediate).await?;
                sleep(BEFORE_RESTART).await;
                cluster.postgres.start().await?;
            }
        }
        Ok(Duration::ZERO)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            KillService(n, away) | KillEdge(n, away) => {
                write!(f, "{kind} ({}, away {} s)", ["a", "b"][*n], away.as_secs())
            }
            TerminateService(n) | TerminateEdge(n) | FreezeService(n) | FreezeEdge(n) | FreezeNats(n) | KillNats(n)
            | StepServiceClock(n) | StepEdgeClock(n) => {
                write!(f, "{kind} ({})", ["a", "b"][*n])
            }
            _ => f.write_str(kind),
        }
    }
}

async fn kill(node: &mut Node, away: Duration) -> anyhow::Result<()> {
    node.kill()?;
    sleep(away).await;
    node.start().await
}

async fn terminate(node: &mut Node) -> anyhow::Result<Duration> {
    let left_in = node.terminate().await?;
    sleep(BEFORE_RESTART).await;
    node.start().await?;
    Ok(left_in)
}

async fn step_clock(node: &Node) -> anyhow::Result<()> {
    for ahead_s in [CLOCK_STEP_S, -CLOCK_STEP_S] {
        node.set_clock(ahead_s)?;
        sleep(STEPPED).await;
    }
    node.set_clock(0)
}

async fn freeze(node: &mut Node) -> anyhow::Result<()> {
    node.freeze()?;
    sleep(FROZEN).await;
    node.thaw()
}
