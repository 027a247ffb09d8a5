//! Routing policy rules: list, add, remove.

use std::net::IpAddr;

use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::IpVersion;

use super::{Netlink, collect, family, is_exist, ok_if_absent, refused};
use crate::host::error::Error;
use crate::host::plan::{PolicyRule, ROUTE_PROTOCOL};

impl Netlink {
    /// Adds a rule. One that is there already is no error.
    pub(in crate::host) async fn add_rule(&self, wanted: &PolicyRule) -> Result<(), Error> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule_message(wanted);
        let done = request.execute().await;
        match done.map_err(|error| refused(wanted.to_string(), error)) {
            Err(error) if is_exist(&error) => Ok(()),
            done => done,
        }
    }

    /// Removes a rule. An absent one is no error.
    pub(in crate::host) async fn remove_rule(&self, wanted: &PolicyRule) -> Result<(), Error> {
        let done = self.handle.rule().del(rule_message(wanted)).execute().await;
        ok_if_absent(done, || format!("remove the rule: {wanted}"))
    }

    /// True if the host has this rule.
    pub(in crate::host) async fn has_rule(&self, wanted: &PolicyRule) -> Result<bool, Error> {
        let version = match wanted.to {
            IpAddr::V4(_) => IpVersion::V4,
            IpAddr::V6(_) => IpVersion::V6,
        };
        let listed = self.handle.rule().get(version).execute();
        let rules = collect("list routing policy rules", listed).await?;
        let expected = rule_message(wanted);
        let has_all = |rule: &RuleMessage| {
            let mut attributes = expected.attributes.iter();
            rule.header.src_len == expected.header.src_len
                && rule.header.dst_len == expected.header.dst_len
                && attributes.all(|one| rule.attributes.contains(one))
        };
        Ok(rules.iter().any(has_all))
    }
}

fn rule_message(wanted: &PolicyRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(wanted.to);
    message.header.action = RuleAction::ToTable;
    message.header.src_len = match wanted.from {
        None => 0,
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
    };
    message.header.dst_len = wanted.len;
    let from = wanted.from.map(RuleAttribute::Source);
    message.attributes.extend(from);
    message.attributes.extend([
        RuleAttribute::Destination(wanted.to),
        RuleAttribute::Priority(wanted.priority),
        RuleAttribute::Table(wanted.table),
        RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
    ]);
    message
}
