//! What a report says, to people and to CI.

use platform_decide::analysis::PairedVerdict;

use super::*;

fn heap() -> MetricSide {
    MetricSide {
        metric: "heap".to_owned(),
        only_reports: true,
        new: Some(101.5),
        old: Some(100.0),
        pairs: 12,
        worse_pairs: 1,
        verdict: PairedVerdict::CannotTellYet,
        words: "cannot tell yet: worse than tolerated in 1 of 12 pairs".to_owned(),
        unread: None,
    }
}

fn report() -> Report {
    Report {
        release: ReleaseNumber(2),
        strategy: "canary".to_owned(),
        ended: "rolled-back".to_owned(),
        why: Some("orders@r2: 20 % bad & \"slow\"".to_owned()),
        began_at: 1_000,
        ended_at: 9_500,
        decided_after: Some(1_200),
        members: vec![ReportMember {
            from: "orders@r1".parse().unwrap(),
            to: "orders@r2".parse().unwrap(),
            new: Tally {
                requests: 90,
                bad: 18,
                slow: 0,
                left_out: 31,
            },
            new_besides: Besides {
                asked_for: Tally {
                    requests: 30,
                    bad: 20,
                    ..Tally::default()
                },
                heavy: Tally {
                    requests: 31,
                    bad: 2,
                    ..Tally::default()
                },
            },
            old_besides: Besides::default(),
            copies: Tally {
                requests: 70,
                bad: 2,
                slow: 1,
                left_out: 0,
            },
            old: Tally {
                requests: 900,
                bad: 1,
                slow: 0,
                left_out: 0,
            },
            baseline: Tally {
                requests: 92,
                bad: 0,
                slow: 0,
                left_out: 0,
            },
            compared: Some(Compared {
                stage: "25 %".to_owned(),
                new: Tally {
                    requests: 89,
                    bad: 18,
                    slow: 0,
                    left_out: 0,
                },
                old: Tally {
                    requests: 91,
                    bad: 0,
                    slow: 0,
                    left_out: 0,
                },
            }),
            latency: Latencies {
                new: Some(Latency {
                    mean_micros: 3_140,
                    p99_micros: Some(12_000),
                }),
                baseline: None,
                old: Some(Latency {
                    mean_micros: 2_990,
                    p99_micros: None,
                }),
            },
            evidence: Some(Evidence {
                towards_worse: 1.0,
                towards_better: 0.0,
                verdict: "the new release is worse".to_owned(),
            }),
            verdict: None,
            metrics: vec![heap()],
        }],
        stages: Vec::new(),
        log: vec![Entry {
            at: 3_200,
            note: Note::GoingBack {
                why: Why::Operator {
                    by: "ada".to_owned(),
                },
            },
        }],
    }
}

#[test]
fn a_page_says_how_it_ended_and_why() {
    let page = report().markdown();
    assert!(
        page.starts_with("# Rollout of r2, orders: rolled-back\n"),
        "{page}"
    );
    assert!(
        page.contains(
            "40 requests met an error of the new release, 20 of them chose it by a header or a cookie and 2 of them came from \
             heavy clients."
        ),
        "{page}"
    );
    assert!(page.contains("| orders@r2 | 90 | 18 | 0 |"), "{page}");
    assert!(
        page.contains("| orders@r2, copies that nobody got | 70 | 2 | 1 |"),
        "{page}"
    );
    for row in [
        "| orders@r2 | 90 | 18 | 0 | 3.1 ms | 12.0 ms |",
        "| orders@r2 besides, by a header or a cookie | 30 | 20 | 0 |  |  |",
        "| orders@r2 besides, of heavy clients | 31 | 2 | 0 |  |  |",
        "| orders@r1 | 900 | 1 | 0 | 2.9 ms |  |",
        "| of that orders@r1-baseline | 92 | 0 | 0 |  |  |",
        "| orders@r2, compared in 25 % | 89 | 18 | 0 |  |  |",
        "| the old release, compared in 25 % | 91 | 0 | 0 |  |  |",
        "| 25 % | orders@r2 | heap | only reports | 101.5 | 100 | 12 | 1 | cannot tell yet: worse than tolerated in 1 of 12 pairs |",
        "orders: evidence at the end 100 % towards worse, 0 % towards better or equal.",
    ] {
        assert!(page.contains(row), "`{row}` in {page}");
    }
    assert!(
        page.contains(
            "orders: 31 more requests of the new release and 0 of the old one are in no comparison"
        ),
        "{page}"
    );
    assert!(
        page.contains("- 2.2 s: goes back: ada asked for it"),
        "{page}"
    );
}

#[test]
fn what_a_gate_says_is_nothing_but_text() {
    let why = Why::Gate {
        gate: "tests".to_owned(),
        answer: "exit status: 1: line one\n| x | y |\n# Title <b>\u{1b}[31m".to_owned(),
    };
    let mut report = report();
    report.why = Some(why.to_string());
    report.log[0].note = Note::GoingBack { why };
    let page = report.markdown();
    let said =
        "gate `tests` does not agree: exit status: 1: line one / \\| x \\| y \\| / # Title \\<b>";
    for line in [
        format!("It went back because {said}."),
        format!("- 2.2 s: goes back: {said}"),
    ] {
        assert!(page.lines().any(|of| of == line), "{line} in {page}");
    }
    let junit = report.junit();
    assert!(
        junit.contains("line one / | x | y | / # Title &lt;b&gt;\""),
        "{junit}"
    );
    for text in [page, junit] {
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn junit_is_xml_and_counts_the_failure() {
    let text = report().junit();
    assert!(text.contains("tests=\"1\" failures=\"1\""), "{text}");
    assert!(text.contains("20 % bad &amp; &quot;slow&quot;"), "{text}");
    assert!(text.contains("name=\"orders outcome\""), "{text}");
}
