//! The control protocol: one command per line, answered by `ok`, a line of JSON, or `error: …`.
//!
//! Owns: the words. Does not know: sockets, and what a command does.

use std::str::FromStr;

/// A command to the camera; each acts on all of its streams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// What is shown.
    Picture(PictureFault),
    /// How it is packed.
    Packet(PacketFault),
    /// Who may see it.
    Link(LinkFault),
    /// One line of JSON: `clients`, `connects` and `units` sent.
    Stats,
}

/// Faults of encoder and camera, done by the pacing thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFault {
    /// `stall`: nothing more is sent, connections stay open.
    Stall,
    /// `resume`: plays on; its time line jumps by the stall.
    Resume,
    /// `corrupt N`: 0.5 % of the bytes of the next N access units are flipped.
    Corrupt(u32),
    /// `badsps on|off`: sequence parameter sets that fit no slice (H.264, H.265).
    BadSps(bool),
    /// `size`: turns to the other clip (`--other`), in band.
    Size,
    /// `burst N`: N access units are held back until the last of them is due, then sent at once.
    Burst(u32),
    /// `eos`: ends the stream properly (RTCP BYE).
    Eos,
    /// `freeze on|off`: the same keyframe again and again.
    Freeze(bool),
}

/// Faults of the network, done on RTP packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PacketFault {
    /// `loss PERCENT`: that share of packets vanishes; 0 ends it.
    Loss(f64),
    /// `rtpjump SECONDS`: RTP timestamps jump, forwards or backwards.
    RtpJump(f64),
    /// `seqjump N`: RTP sequence numbers jump.
    SeqJump(u16),
    /// `ntp SECONDS`: sender reports tell a time that is so far from the right one.
    Ntp(f64),
    /// `reports on|off`: whether sender reports (all RTCP) go out.
    Reports(bool),
}

/// Faults of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// `drop`: closes all connections; new ones are welcome.
    Drop,
    /// `refuse on|off`: closes all connections and the listening socket.
    Refuse(bool),
    /// `mute on|off`: closes all connections; new ones are taken, and nothing is ever said on them.
    Mute(bool),
    /// `unreachable on|off`: closes all connections; nobody answers who wants a new one (a SYN is lost).
    Unreachable(bool),
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        use {LinkFault as L, PacketFault as N, PictureFault as P};
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let argument = words.next();
        if words.next().is_some() {
            return Err(format!("`{line}`: at most one argument"));
        }
        let plain = |command| match argument {
            None => Ok(command),
            Some(word) => Err(format!("`{verb}` takes no argument, got `{word}`")),
        };
        match verb {
            "stall" => plain(Self::Picture(P::Stall)),
            "resume" => plain(Self::Picture(P::Resume)),
            "size" => plain(Self::Picture(P::Size)),
            "eos" => plain(Self::Picture(P::Eos)),
            "drop" => plain(Self::Link(L::Drop)),
            "stats" => plain(Self::Stats),
            "refuse" => Ok(Self::Link(L::Refuse(switch(verb, argument)?))),
            "mute" => Ok(Self::Link(L::Mute(switch(verb, argument)?))),
            "unreachable" => Ok(Self::Link(L::Unreachable(switch(verb, argument)?))),
            "badsps" => Ok(Self::Picture(P::BadSps(switch(verb, argument)?))),
            "freeze" => Ok(Self::Picture(P::Freeze(switch(verb, argument)?))),
            "corrupt" => Ok(Self::Picture(P::Corrupt(number(verb, argument)?))),
            "burst" => Ok(Self::Picture(P::Burst(number(verb, argument)?))),
            "seqjump" => Ok(Self::Packet(N::SeqJump(number(verb, argument)?))),
            "rtpjump" => Ok(Self::Packet(N::RtpJump(real(verb, argument, -3600.0..=3600.0)?))),
            "ntp" => Ok(Self::Packet(N::Ntp(real(verb, argument, -1e9..=1e9)?))),
            "reports" => Ok(Self::Packet(N::Reports(switch(verb, argument)?))),
            "loss" => Ok(Self::Packet(N::Loss(real(verb, argument, 0.0..=100.0)?))),
            _ => Err(format!(
                "unknown command `{verb}`; there are: stall, resume, drop, refuse on|off, mute on|off, unreachable on|off, corrupt N, badsps on|off, \
                 size, burst N, eos, loss PERCENT, rtpjump SECONDS, seqjump N, ntp SECONDS, \
                 reports on|off, freeze on|off, stats"
            )),
        }
    }
}

fn switch(verb: &str, argument: Option<&str>) -> Result<bool, String> {
    match argument {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        _ => Err(format!("`{verb}` wants `on` or `off`")),
    }
}

fn number<T: FromStr>(verb: &str, argument: Option<&str>) -> Result<T, String> {
    argument.and_then(|word| word.parse().ok()).ok_or_else(|| format!("`{verb}` wants a whole number"))
}

fn real(verb: &str, argument: Option<&str>, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    argument
        .and_then(|word| word.parse().ok())
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("`{verb}` wants a number from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        struct Case(&'static str, Command);
        let cases = [
            Case("stall", Command::Picture(PictureFault::Stall)),
            Case("  corrupt 12 ", Command::Picture(PictureFault::Corrupt(12))),
            Case("refuse on", Command::Link(LinkFault::Refuse(true))),
            Case("unreachable on", Command::Link(LinkFault::Unreachable(true))),
            Case("freeze off", Command::Picture(PictureFault::Freeze(false))),
            Case("loss 2.5", Command::Packet(PacketFault::Loss(2.5))),
            Case("rtpjump -10", Command::Packet(PacketFault::RtpJump(-10.0))),
            Case("seqjump 5000", Command::Packet(PacketFault::SeqJump(5000))),
            Case("ntp -7200.5", Command::Packet(PacketFault::Ntp(-7200.5))),
            Case("reports off", Command::Packet(PacketFault::Reports(false))),
            Case("stats", Command::Stats),
        ];
        for Case(line, expected) in cases {
            assert_eq!(line.parse(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn wrong_lines_say_what_would_be_right() {
        struct Case(&'static str, &'static str);
        let cases = [
            Case("", "there are: stall"),
            Case("explode", "there are: stall"),
            Case("stall now", "takes no argument"),
            Case("refuse", "`on` or `off`"),
            Case("corrupt -1", "whole number"),
            Case("seqjump 70000", "whole number"),
            Case("loss 101", "from 0 to 100"),
            Case("loss nan", "from 0 to 100"),
            Case("corrupt 1 2", "at most one"),
        ];
        for Case(line, part) in cases {
            let error = line.parse::<Command>().unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
