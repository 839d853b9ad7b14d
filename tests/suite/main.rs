//! Every test of the whole system, in one program so that it is linked once.

mod binary;
mod chat_contract;
mod coverage;
mod crash;
mod hostile;
mod outside;
mod protocols;
mod sockets;
mod transcripts;
