//! Compiles the API's definition without protoc and keeps its descriptor set for
//! gRPC reflection and for sgctl's YAML and JSON files.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/sgagent/v1/sgagent.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("sgagent.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .boxed(".sgagent.v1.WatchDropsResponse.news.packet")
        .compile_fds(descriptors)?;
    Ok(())
}
