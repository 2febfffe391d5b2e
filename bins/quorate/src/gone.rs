use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{
    args::GoneArgs,
    data::{authority, block_on, connect_as_operator},
};

/// Tells a node that is being filled that another one will never come back.
pub(crate) fn run(args: &GoneArgs) -> Result<ExitCode> {
    let client = connect_as_operator(&args.operator)?;
    block_on(client.declare_gone(authority(&args.operator.node), args.gone))?
        .with_context(|| format!("{} was not told of it", args.operator.node.node))?;
    println!("{} waits no more for what {} had.", args.operator.node.node, args.gone);
    Ok(ExitCode::SUCCESS)
}
