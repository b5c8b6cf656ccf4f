//! Times every piece.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gimmal_benches::pieces;

fn pieces(criterion: &mut Criterion) {
    for mut piece in pieces::all() {
        let mut group = criterion.benchmark_group(piece.group);
        if piece.bytes > 0 {
            group.throughput(Throughput::Bytes(piece.bytes as u64));
        }
        group.bench_function(piece.case, |bencher| bencher.iter(|| piece.run()));
        group.finish();
    }
}

criterion_group!(benches, pieces);
criterion_main!(benches);
