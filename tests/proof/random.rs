//! What is random is the same each time, so that a change is judged by what it changes; with
//! `SGAGENT_PROOF_RANDOM`, as in the whole proof, it never is.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

pub(crate) fn runner(config: Config) -> TestRunner {
    if std::env::var_os("SGAGENT_PROOF_RANDOM").is_some() {
        return TestRunner::new(config);
    }
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, random)
}
