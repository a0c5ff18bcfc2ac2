//! A report for people: one line each for what was asked, what came of it and what it cost.

use std::fmt::{Display, Formatter, Result};

use super::latency::Summary;
use super::report::{Generator, Report, Server};

/// From here on the generator's thread is the limit rather than the server.
const SATURATED_CORES: f64 = 0.9;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.task(f)?;
        self.opened(f)?;
        if self.scenario != "idle" {
            let Self {
                events,
                deliveries,
                deliveries_per_second,
                ..
            } = self;
            writeln!(
                f,
                "deliveries   {deliveries} of {events} events, {deliveries_per_second:.0}/s"
            )?;
        }
        latency(f, "delivery", self.delivery)?;
        latency(f, "elsewhere", self.elsewhere)?;
        latency(f, "ack", self.ack)?;
        latency(f, "send lag", self.send_lag)?;
        if let Some(used) = &self.server {
            server(f, used)?;
        }
        generator(f, &self.generator)?;
        self.mistakes(f)
    }
}

impl Report {
    fn task(&self, f: &mut Formatter<'_>) -> Result {
        let Self {
            scenario,
            dialect,
            connections,
            rooms,
            ..
        } = self;
        write!(
            f,
            "{scenario} ({dialect}): {connections} sockets, {rooms} rooms"
        )?;
        if let Some(window) = self.window {
            write!(f, ", window {window}")?;
        }
        if let Some(rate) = self.rate {
            write!(f, ", {rate} deliveries/s asked for")?;
        }
        writeln!(f, ", measured {:.1} s", self.seconds)
    }

    fn opened(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "opening      {:.2} s", self.opening.seconds)?;
        if let Some(cpu_us) = self.opening.cpu_us {
            write!(f, ", {cpu_us:.0} us server CPU each")?;
        }
        writeln!(f)
    }

    fn mistakes(&self, f: &mut Formatter<'_>) -> Result {
        let faults = self.faults();
        let faults = if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        };
        writeln!(f, "faults       {faults}")?;
        for (reason, n) in self
            .opening
            .failed
            .iter()
            .chain(&self.parted)
            .chain(&self.refused)
        {
            writeln!(f, "             {n} x {reason}")?;
        }
        Ok(())
    }
}

fn latency(f: &mut Formatter<'_>, name: &str, summary: Option<Summary>) -> Result {
    let Some(Summary {
        p50_ms,
        p99_ms,
        p999_ms,
        max_ms,
        ..
    }) = summary
    else {
        return Ok(());
    };
    writeln!(
        f,
        "{name:<12} p50 {p50_ms:.2} ms, p99 {p99_ms:.2}, p99.9 {p999_ms:.2}, max {max_ms:.2}"
    )
}

fn server(f: &mut Formatter<'_>, server: &Server) -> Result {
    write!(f, "server       {:.2} cores", server.cores)?;
    if let (Some(all), Some(user)) = (server.us_per_delivery, server.user_us_per_delivery) {
        write!(f, ", {all:.2} us per delivery ({user:.2} user)")?;
    }
    let (rss, each) = (mib(server.rss_bytes), server.rss_bytes_per_connection);
    writeln!(f, ", {rss:.1} MiB, {each:.0} B more per socket")
}

fn generator(f: &mut Formatter<'_>, generator: &Generator) -> Result {
    let Generator { cores, rss_bytes } = *generator;
    let is_saturated = cores > SATURATED_CORES;
    let remark = if is_saturated {
        " (saturated: rates are lower bounds)"
    } else {
        ""
    };
    writeln!(
        f,
        "generator    {cores:.2} cores{remark}, {:.1} MiB",
        mib(rss_bytes)
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
