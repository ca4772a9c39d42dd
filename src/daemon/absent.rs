//! Listed members that were not opened at the start: who they are, as far as that can be known.
//!
//! The array knows a member that it lacks by its identity, an admin by its path. Which is which is known
//! of one that was left out, for it can be looked at; of one that cannot be opened only if it is the
//! only one that it can be.

use super::examine::identify;
use crate::array::{MemberRef, MemberReport, MemberState, Report};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::units::{ArrayId, MemberId};
use std::time::Duration;

/// A listed member that was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Where it should be.
    pub path: String,
    /// Why not, without the path.
    pub why: String,
    /// Who it is, if that was looked at.
    pub member: Option<MemberId>,
    /// It did not answer, and is not tried again unasked.
    pub hangs: bool,
}

impl Absent {
    /// One that could not be opened.
    pub fn unopened(path: &str, error: &Error) -> Self {
        let hangs = error.kind() == ErrorKind::Timeout;
        Self { path: path.to_owned(), why: without_path(&error.report(), path), member: None, hangs }
    }
}

/// One that an admin left out. It is looked at, and neither locked nor changed.
pub async fn left_out(path: String, array: ArrayId, env: &Env, limit: Duration) -> Absent {
    let ours = identify(&path, env, limit).await.ok().filter(|(of, _)| *of == array);
    let member = ours.map(|(_, member)| member);
    Absent { path, why: "left out as asked".to_owned(), member, hangs: false }
}

/// Puts the paths into the rows of missing members.
pub fn place(report: &mut Report, absent: &[Absent]) {
    let free = |report: &Report, a: &Absent| report.members.iter().all(|m| m.path != a.path);
    for known in absent.iter().filter(|a| a.member.is_some()) {
        if free(report, known)
            && let Some(row) =
                report.members.iter_mut().find(|m| is_unplaced(m) && Some(m.uuid) == known.member)
        {
            fill(row, known);
        }
    }
    let left: Vec<&Absent> = absent.iter().filter(|a| a.member.is_none() && free(report, a)).collect();
    let mut rows = report.members.iter_mut().filter(|m| is_unplaced(m));
    if let ([only], Some(row), None) = (left.as_slice(), rows.next(), rows.next()) {
        fill(row, only);
    }
}

/// The member meant, by its identity if it is one whose path the array does not know.
pub fn meant(placed: &Report, named: MemberRef) -> MemberRef {
    let MemberRef::Path(path) = &named else { return named };
    let mut rows = placed.members.iter().filter(|m| m.path == *path);
    match (rows.next(), rows.next()) {
        (Some(row), None) if row.state == MemberState::Missing => MemberRef::Id(row.uuid),
        _ => named,
    }
}

fn is_unplaced(row: &MemberReport) -> bool {
    row.state == MemberState::Missing && row.path.is_empty() && row.uuid != MemberId::NIL
}

fn fill(row: &mut MemberReport, absent: &Absent) {
    row.path.clone_from(&absent.path);
    row.reason = Some(absent.why.clone());
}

fn without_path(report: &str, path: &str) -> String {
    report.strip_prefix(path).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(report).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::admin::tests::report;
    use super::*;
    use MemberState::{InSync, Missing};

    fn absent(path: &str, member: Option<u8>) -> Absent {
        let member = member.map(|n| MemberId::from_bytes([n; 16]));
        Absent { path: path.to_owned(), why: format!("not {path}"), member, hangs: false }
    }

    fn paths(rows: &[(&str, MemberState)], absent: &[Absent]) -> Vec<String> {
        let mut report = report(rows);
        place(&mut report, absent);
        report.members.into_iter().map(|m| m.path).collect()
    }

    #[test]
    fn a_path_belongs_to_the_only_member_it_can_be() {
        let one = [("/a", InSync), ("", Missing), ("/c", InSync)];
        assert_eq!(paths(&one, &[absent("/b", None)]), ["/a", "/b", "/c"]);
        assert_eq!(paths(&one, &[absent("/b", None), absent("/x", None)]), ["/a", "", "/c"]);
        assert_eq!(paths(&one, &[absent("/c", None)]), ["/a", "", "/c"], "it came back since");
        let two = [("/a", InSync), ("", Missing), ("", Missing)];
        assert_eq!(paths(&two, &[absent("/b", None)]), ["/a", "", ""]);
        let known = absent("/c", Some(3));
        assert_eq!(paths(&two, std::slice::from_ref(&known)), ["/a", "", "/c"]);
        assert_eq!(paths(&two, &[absent("/b", None), known]), ["/a", "/b", "/c"]);
    }

    #[test]
    fn a_path_means_a_missing_member_only_if_no_other_has_it() {
        let path = || MemberRef::Path("/b".to_owned());
        let mut report = report(&[("/a", InSync), ("", Missing), ("/c", InSync)]);
        assert_eq!(meant(&report, path()), path());
        place(&mut report, &[absent("/b", None)]);
        assert_eq!(report.members[1].reason.as_deref(), Some("not /b"));
        assert_eq!(meant(&report, path()), MemberRef::Id(MemberId::from_bytes([2; 16])));
        report.members[2].path = "/b".to_owned();
        assert_eq!(meant(&report, path()), path());
        assert_eq!(without_path("/b: cannot open: gone", "/b"), "cannot open: gone");
    }
}
