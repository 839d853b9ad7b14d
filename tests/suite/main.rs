//! Every test of the whole system, in one program so that it is linked once.

mod authorization;
mod binary;
mod chat_contract;
mod coverage;
mod crash;
mod django;
mod every;
mod hostile;
mod instances;
mod limits;
mod location;
mod notifications;
mod outside;
mod presence;
mod protocols;
mod remains;
mod restart;
mod sockets;
mod standing;
mod tokens;
mod transcripts;
mod transport;
mod web;
