//! The contract with the programs that call a runtime. Stand-ins send the command lines of each
//! caller, with its environment and streams, and read the answers as that caller does.
//! No caller is started; `integration/engines` does that.

mod answers;
mod buildah;
mod buildkit;
mod caller;
mod conmon;
mod containerd;
mod crio;
mod errors;
mod podman;
mod rules;
