//! The table of one client that makes much of the traffic and most of the errors.

use std::io::{self, Write};

use platform_decide::analysis::Policy;

use crate::sections::{Report, WITH_MARGIN, errors_only};
use crate::table::{self, percent};
use crate::traffic::{Goes, HeavyClient, Scenario};
use crate::trial::End;

/// Errors of everybody else.
const BASE: f64 = 0.005;

impl<W: Write> Report<W> {
    pub fn client(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "One client with much of the traffic and errors of its own (others 0.5 %, margin 0.5 %, regression 1.5 %)",
            &[
                "its share of the requests; its errors; canary's weight",
                "its requests go",
                "stated clump",
                "equal: rolled back (%)",
                "mean n",
                "regression: rolled back (%)",
                "mean n",
            ],
        )?;
        for share in [0.1, 0.3] {
            for weight in [0.5, 0.05] {
                for (bad, goes, clump) in [
                    (0.02, Goes::ByHash, 1.0),
                    (0.05, Goes::ByHash, 1.0),
                    (0.2, Goes::ByHash, 1.0),
                    (0.2, Goes::ByHash, 10.0),
                    (0.2, Goes::ByWeight, 1.0),
                ] {
                    let policy = Policy {
                        clump,
                        ..errors_only(WITH_MARGIN)
                    };
                    let scenario = |canary: f64| Scenario {
                        weight,
                        heavy_client: Some(HeavyClient { share, bad, goes }),
                        ..Scenario::steady(BASE, canary)
                    };
                    let equal = self.runs(&scenario(BASE), &policy);
                    let worse = self.runs(&scenario(BASE + WITH_MARGIN.regression), &policy);
                    let way = if goes == Goes::ByWeight {
                        "by weight (`sticky = false`)"
                    } else {
                        "to one side, by its hash"
                    };
                    table::row(
                        &mut self.out,
                        &[
                            format!("{}; {}; {}", percent(share), percent(bad), percent(weight)),
                            way.to_owned(),
                            format!("{clump}"),
                            equal.share(End::Worse),
                            format!("{:.0}", equal.samples()),
                            worse.share(End::Worse),
                            format!("{:.0}", worse.samples()),
                        ],
                    )?;
                }
            }
        }
        Ok(())
    }
}
