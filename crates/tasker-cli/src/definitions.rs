//! Finding the definition that a person names: a file, or a task handler of files and store.

use std::collections::HashSet;
use std::path::Path;

use tasker::model::dag::nearest;
use tasker::model::name::Version;
use tasker::model::template::{ContentHash, TaskTemplate};
use tasker::yaml::problem::{InvalidFile, InvalidFiles};
use tasker::yaml::{self, TemplateFile};
use tasker::{StepHandlers, TaskHandler};

use crate::args::Templates;
use crate::output::Failure;
use crate::target;

/// Where a definition was found.
pub(crate) enum Source {
    File(TemplateFile),
    Store(TaskTemplate),
}

impl Source {
    pub(crate) fn template(&self) -> &TaskTemplate {
        match self {
            Source::File(file) => &file.template,
            Source::Store(template) => template,
        }
    }

    /// The file's path, or the word for the store.
    pub(crate) fn place(&self) -> String {
        match self {
            Source::File(file) => file.path.display().to_string(),
            Source::Store(_) => "store".to_owned(),
        }
    }
}

impl From<InvalidFile> for Failure {
    fn from(invalid: InvalidFile) -> Failure {
        Failure::usage(InvalidFiles(vec![invalid]).to_string())
    }
}

impl From<InvalidFiles> for Failure {
    fn from(invalid: InvalidFiles) -> Failure {
        Failure::usage(invalid.to_string())
    }
}

impl Templates {
    /// The files of the folder; none if it does not exist and nobody has named it.
    pub(crate) fn files(&self) -> Result<Vec<TemplateFile>, InvalidFiles> {
        if self.templates == Path::new(yaml::DIRECTORY) && !self.templates.exists() {
            return Ok(Vec::new());
        }
        yaml::load_directory(&self.templates, &self.environment)
    }

    pub(crate) fn file(&self, path: &Path) -> Result<TemplateFile, InvalidFile> {
        yaml::load_file(path, &self.environment)
    }

    fn of_files(&self) -> Result<Vec<Source>, Failure> {
        Ok(self.files()?.into_iter().map(Source::File).collect())
    }

    /// Every definition: of the files, and of the store what no file has, if there is a store.
    pub(crate) async fn all(&self, store: Option<String>) -> Result<Vec<Source>, Failure> {
        let mut sources = self.of_files()?;
        if let Some(store) = target::open_if_there(store).await? {
            let stored = store.templates(None).await?;
            // What runs for items, and what undoes tasks, nobody has written.
            let derived = stored.iter().flat_map(|(_, template)| template.derived());
            let derived: HashSet<ContentHash> = derived.map(|template| template.hash()).collect();
            for (_, template) in stored {
                let hash = template.hash();
                let is_known = |source: &Source| source.template().hash() == hash;
                if !derived.contains(&hash) && !sources.iter().any(is_known) {
                    sources.push(Source::Store(template));
                }
            }
        }
        Ok(sources)
    }

    /// Every file of the folder, with the code of its steps.
    pub(crate) fn handlers(&self) -> Result<Vec<TaskHandler>, Failure> {
        let code = StepHandlers::new();
        let (mut handlers, mut wrong) = (Vec::new(), Vec::new());
        for file in self.files()? {
            match code.bind(&file) {
                Ok(handler) => handlers.push(handler),
                Err(invalid) => wrong.push(invalid),
            }
        }
        if wrong.is_empty() {
            Ok(handlers)
        } else {
            Err(InvalidFiles(wrong).into())
        }
    }

    /// The task handler that is meant, with its code: of a file, or of this program.
    pub(crate) async fn handler(
        &self,
        named: &str,
        store: Option<String>,
    ) -> Result<TaskHandler, Failure> {
        let own = flight_delays::workflow::task_handler()?;
        if !is_file(named) && Wanted::parse(named)?.is(own.template()) {
            return Ok(own);
        }
        let found = match store {
            // The store of a first run is not there yet.
            Some(store) if !is_file(named) && target::missing_file(&store).is_some() => {
                pick(named, self.of_files()?)?
            }
            store => self.find(named, store).await?,
        };
        match found {
            Source::File(file) => Ok(StepHandlers::new().bind(&file)?),
            Source::Store(template) => {
                let name = template.full_name();
                let text = format!("{name} is known to the store, but its code is not here");
                Err(Failure::usage(text).hint("run it from its template file"))
            }
        }
    }

    /// The task handlers that the steps of one may start: of the files beside it, and of the folder. Those
    /// whose code is not in this program are left out.
    pub(crate) fn beside(
        &self,
        named: &str,
        of: &TaskTemplate,
    ) -> Result<Vec<TaskHandler>, Failure> {
        if !of.source().steps.iter().any(|step| step.starts_task) {
            return Ok(Vec::new());
        }
        let mut files = self.files()?;
        if let Some(folder) = folder_of(named) {
            files.extend(yaml::load_directory(folder, &self.environment)?);
        }
        let mut known = HashSet::from([of.full_name()]);
        let code = StepHandlers::new();
        let others = files
            .iter()
            .filter(|file| known.insert(file.template.full_name()));
        Ok(others.filter_map(|file| code.bind(file).ok()).collect())
    }

    /// The options with which a worker knows the task handler that is meant; empty where it needs none.
    pub(crate) fn worker_options(&self, named: &str) -> String {
        let mut options = String::new();
        let folder = folder_of(named).unwrap_or(&self.templates);
        if folder != Path::new(yaml::DIRECTORY) {
            options += &format!(" --templates {}", folder.display());
        }
        if self.environment != yaml::DEFAULT_ENVIRONMENT {
            options += &format!(" --environment {}", self.environment);
        }
        options
    }

    /// The one definition that is meant. Of several versions, and of several contents of one
    /// version, the latest.
    pub(crate) async fn find(&self, named: &str, store: Option<String>) -> Result<Source, Failure> {
        if is_file(named) {
            return Ok(Source::File(self.file(Path::new(named))?));
        }
        // What is mistyped is said before a store is opened.
        Wanted::parse(named)?;
        pick(named, self.all(store).await?)
    }
}

fn pick(named: &str, all: Vec<Source>) -> Result<Source, Failure> {
    let wanted = Wanted::parse(named)?;
    let known: Vec<String> = all
        .iter()
        .map(|source| source.template().full_name())
        .collect();
    let version = |source: &Source| source.template().source().version;
    let mut found: Vec<Source> = all;
    found.retain(|source| wanted.is(source.template()));
    wanted.check_namespaces(&found)?;
    // Files stand before the store, and of equal versions the first is taken.
    let later = |best: Source, next: Source| {
        let is_later = version(&next) > version(&best);
        if is_later { next } else { best }
    };
    found.into_iter().reduce(later).ok_or_else(|| {
        let failure = Failure::usage(format!("there is no task handler `{named}`"));
        match nearest(named, known.iter().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure
                .hint("`tasker handler list` shows what there is; a file is named by its path"),
        }
    })
}

/// Whether a text names a file rather than a task handler.
fn is_file(named: &str) -> bool {
    let path = Path::new(named);
    path.extension()
        .is_some_and(|end| end == "yaml" || end == "yml")
        || path.is_file()
}

/// The folder of the file that a text names, if it names one.
fn folder_of(named: &str) -> Option<&Path> {
    let folder = Path::new(named).parent().filter(|_| is_file(named))?;
    let is_here = folder.as_os_str().is_empty();
    Some(if is_here { Path::new(".") } else { folder })
}

/// `name`, `namespace.name` or `namespace/name`, each with `@version` or without.
struct Wanted<'a> {
    name: &'a str,
    version: Option<Version>,
}

impl Wanted<'_> {
    fn parse(named: &str) -> Result<Wanted<'_>, Failure> {
        let (name, version) = match named.rsplit_once('@') {
            None => (named, None),
            Some((name, version)) => {
                let version = version
                    .parse()
                    .map_err(|error| Failure::usage(format!("{error}")));
                (name, Some(version?))
            }
        };
        Ok(Wanted { name, version })
    }

    fn is(&self, template: &TaskTemplate) -> bool {
        let source = template.source();
        let (namespace, name) = (source.namespace.as_str(), source.name.as_str());
        let rest = self.name.strip_prefix(namespace);
        let bare = rest.and_then(|rest| rest.strip_prefix(['.', '/']));
        let names_it = bare == Some(name) || self.name == name;
        names_it && self.version.is_none_or(|version| version == source.version)
    }

    /// A name alone must be that of one namespace.
    fn check_namespaces(&self, found: &[Source]) -> Result<(), Failure> {
        let namespace = |source: &Source| source.template().source().namespace.to_string();
        let mut namespaces: Vec<String> = found.iter().map(namespace).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if namespaces.len() < 2 {
            return Ok(());
        }
        let (name, in_all) = (self.name, namespaces.join(", "));
        let hint = format!("name the namespace, too: `{}.{name}`", namespaces[0]);
        Err(Failure::usage(format!("`{name}` is in several namespaces: {in_all}")).hint(hint))
    }
}
