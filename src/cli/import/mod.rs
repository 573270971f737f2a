//! `gofavorites import`: brings in what people have in other apps and files.
//!
//! A file is read and recognised (`source`, `format`) and parsed (one file for each format). Each
//! entry becomes an item with an id that follows from it (`new_item`), is compared with what the
//! service has (`plan`), and is written in batches (`write`). So an import that is repeated writes
//! nothing.
//!
//! No message repeats a secret, a URI or a part of a file.

mod aegis;
mod csv;
mod format;
mod google;
mod new_item;
mod otp_fields;
mod parsed;
mod parts;
#[cfg(feature = "qr")]
mod picture;
mod plan;
mod protobuf;
mod report;
mod service;
mod source;
mod t_invest;
mod two_fauth;
mod uris;
mod write;

use super::client::Connection;
use super::failed::CommandError;
use super::labels::Labels;
use super::output::Output;
use super::secret_input;
use crate::domain::ItemLimits;
use clap::Args;
use format::Format;
use parsed::{Found, Parsed};
use plan::Entry;
use report::Report;
use service::Service;
use source::Source;
use std::path::PathBuf;

/// Import one-time-password secrets and instruments from files of other programs. Importing a file
/// again adds nothing.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites import aegis-export.json --dry-run
  gofavorites import google-1.png google-2.png --tag login
  gofavorites import favourites.csv --meta broker=x
  zbarimg --quiet --raw qr-code.png | gofavorites import -")]
pub(super) struct Import {
    /// The files; - for the standard input. Only you may read a file with secrets
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The format of the files; without it each is recognised by its content
    #[arg(long)]
    format: Option<Format>,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Change items that differ from their entries. What an entry does not give stays
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Import {
    pub async fn run(self) -> anyhow::Result<()> {
        if self
            .files
            .iter()
            .any(|file| is_uri(&file.to_string_lossy()))
        {
            let message = "give URIs in a file or on the standard input (-), never as an argument, \
                           because everybody on the machine may see a command line";
            return Err(CommandError::usage(message).into());
        }
        let sources = self
            .files
            .iter()
            .map(|file| Source::read(file, self.format))
            .collect::<anyhow::Result<Vec<Source>>>()?;

        let mut service = Service::open(&self.connection).await?;
        let mut entries = self.entries(&sources, &service.limits)?;
        let stored = self.store(&mut service, &mut entries).await;

        let report = Report {
            sources: &sources,
            entries: &entries,
            dry_run: self.dry_run,
        };
        self.output.print(&report.json(), |_| report.text())?;
        stored?;
        match report.failed() {
            0 => Ok(()),
            failed => Err(CommandError::incomplete(failed, entries.len()).into()),
        }
    }

    /// Compares the entries with what is there, and stores them. The outcomes show what became of
    /// each, also after an error.
    async fn store(&self, service: &mut Service, entries: &mut [Entry]) -> anyhow::Result<()> {
        plan::find_repeated(entries);

        let planned = plan::plan(service, entries, self.replace).await;
        let stored = match planned {
            Ok(_) if self.dry_run => Ok(()),
            Ok(writes) => write::write(service, entries, &writes).await,
            Err(error) => {
                write::fail_all(entries);
                Err(error)
            }
        };

        plan::settle_repeated(entries);
        stored
    }

    /// Returns the entries of all files, with the tags and the metadata of the command line.
    fn entries(&self, sources: &[Source], limits: &ItemLimits) -> anyhow::Result<Vec<Entry>> {
        let parsed: Vec<Parsed> = sources.iter().map(|source| parse(source, limits)).collect();
        let parts = parsed.iter().enumerate();
        let parts =
            parts.flat_map(|(file, parsed)| parsed.parts.iter().map(move |part| (file, part)));
        let missing = parts::find_missing(parts);

        let tags = self.labels.tags();
        let meta = self.labels.meta()?;
        let mut entries = Vec::new();
        for (file, parsed) in parsed.into_iter().enumerate() {
            for mut found in parsed.entries {
                found.item = found.item.and_then(|mut item| {
                    item.tags.extend(tags.iter().cloned());
                    item.meta.extend(meta.clone());
                    item.check_labels(limits).map(|()| item)
                });
                entries.push(Entry::new(file, found));
            }
        }

        entries.extend(missing.into_iter().map(|missing| {
            let found = Found {
                place: missing.place,
                item: Err(missing.reason),
            };
            Entry::new(missing.file, found)
        }));
        Ok(entries)
    }
}

/// Returns whether an argument is a URI with secrets in the place of a file.
fn is_uri(argument: &str) -> bool {
    secret_input::is_uri(argument) || google::is_migration(argument.trim_start())
}

/// Parses a file. One that cannot be read has one entry, which has failed.
fn parse(source: &Source, limits: &ItemLimits) -> Parsed {
    let parsed = match source.format {
        Format::Picture => parse_picture(&source.content, limits),
        format => source.text().and_then(|text| match format {
            Format::Otpauth | Format::Google | Format::Picture => {
                Ok(uris::parse_lines(text, limits))
            }
            Format::TwoFauth => two_fauth::parse(text, limits),
            Format::Aegis => aegis::parse(text, limits),
            Format::Csv => csv::parse(text, limits),
            Format::TInvest => t_invest::parse(text, limits),
        }),
    };

    parsed.unwrap_or_else(|reason| {
        let mut failed = Parsed::default();
        failed.push(String::new(), Err(reason));
        failed
    })
}

/// Parses the URIs in the QR codes of a picture.
#[cfg(feature = "qr")]
fn parse_picture(file: &[u8], limits: &ItemLimits) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    for (index, code) in picture::read_codes(file)?.into_iter().enumerate() {
        let place = format!("QR code {}", index + 1);
        match code {
            Ok(text) => uris::parse(text.trim(), place, limits, &mut parsed),
            Err(reason) => parsed.push(place, Err(reason)),
        }
    }

    Ok(parsed)
}

#[cfg(not(feature = "qr"))]
fn parse_picture(_: &[u8], _: &ItemLimits) -> Result<Parsed, String> {
    let reason = "this build cannot read pictures: it was built without the feature qr. Another \
                  program, such as zbarimg, makes text of a QR code";

    Err(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    /// The first byte says which format the others are in.
    #[test]
    fn fuzz_the_import() {
        let formats = Format::value_variants();
        let limits = ItemLimits::default();

        bolero::check!().for_each(|input: &[u8]| {
            let Some((first, content)) = input.split_first() else {
                return;
            };
            let _ = Format::recognise(content);
            let source = Source {
                name: "a file".into(),
                format: formats[usize::from(*first) % formats.len()],
                content: content.to_vec().into(),
            };

            let _ = parse(&source, &limits);
        });
    }
}
