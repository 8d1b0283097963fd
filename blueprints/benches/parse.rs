//! How long it takes to read blueprints of 10 to 5,000 services.
//!
//! `cargo bench -p platform-blueprint`

mod generate;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use platform_blueprint::{Blueprint, EnvironmentName, format};

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse, validate and resolve");
    for services in [10, 100, 1000, 5000] {
        let text = generate::generate(services);
        let production = EnvironmentName::new("production").ok();
        group.throughput(Throughput::Elements(services as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(services),
            &text,
            |bencher, text| {
                bencher.iter(|| {
                    let parsed = Blueprint::parse(black_box(text), "platform.toml").ok()?;
                    parsed.blueprint.resolve(production.as_ref()).ok()
                });
            },
        );
    }
    group.finish();
    let mut group = criterion.benchmark_group("format");
    for services in [100, 1000] {
        let text = generate::generate(services);
        group.throughput(Throughput::Elements(services as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(services),
            &text,
            |bencher, text| {
                bencher.iter(|| format(black_box(text)));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
