//! Compiles `proto/channel.proto` with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let file = "../../proto/channel.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], [root])?;
    // What most calls do without stays out of their size.
    prost_build::Config::new().boxed(".samovar.channel.Call.http").compile_fds(descriptors)?;
    Ok(())
}
