//! x
use clap::Args;
/// Run the platform
#[derive(Args)]
pub(super) struct Dev {}
impl Dev {
    pub async fn run(self) -> anyhow::Result<()> {
        Ok(())
    }
}
