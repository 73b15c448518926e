//! How many subscriptions of a plan stand how.

use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use crate::{journal::Standing, rules::Outcome};

#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub charged: u64,
    pub already_charged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub left: u64,
}

impl Counts {
    pub fn of(standings: &[Standing]) -> Self {
        let count = |outcome| standings.iter().filter(|standing| standing.outcome == outcome).count() as u64;
        Self {
            charged: count(Outcome::Charged),
            already_charged: count(Outcome::AlreadyCharged),
            refused: count(Outcome::Refused),
            unknown: count(Outcome::Unknown),
            left: count(Outcome::Left),
        }
    }

    pub fn done(&self) -> u64 {
        self.charged + self.already_charged + self.refused + self.unknown
    }

    pub fn planned(&self) -> u64 {
        self.done() + self.left
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { charged, already_charged, refused, unknown, left } = self;
        write!(formatter, "{} planned = {} charged", HumanCount(self.planned()), HumanCount(*charged))?;
        write!(formatter, " + {} charged before + {} refused", HumanCount(*already_charged), HumanCount(*refused))?;
        write!(formatter, " + {} unknown + {} left", HumanCount(*unknown), HumanCount(*left))
    }
}
