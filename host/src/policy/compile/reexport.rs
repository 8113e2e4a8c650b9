//! Makes entering a component cheaper. wasmtime 48 makes the reference to an exported function anew for each call (two searches, some 2,000
//! instructions a decision of three calls), unless the core instance that exports it has it from another: then the reference lies ready.
//! So the functions that a component lifts are exported once more, by a core module that imports them and does nothing else.

use std::collections::BTreeSet;

use wasm_encoder::reencode::{self, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, Component, ComponentSectionId, EntityType, ExportKind, ExportSection, ImportSection, InstanceSection, Module, ModuleArg,
    ModuleSection, RawSection, TypeSection,
};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Encoding, ExternalKind, FuncType,
    Instance, Parser, Payload,
};

/// The component with such a module in it; as it was, where its shape does not allow that or it is not valid: what is wrong with it is for
/// the compiler to say.
pub(in crate::policy) fn with_reexports(component: &[u8]) -> Vec<u8> {
    Plan::of(component).and_then(|plan| plan.carry_out(component)).unwrap_or_else(|| component.to_vec())
}

/// Part of the name of cached machine code: to be raised with every change to this file that shows in what it writes.
pub(super) const VERSION: &[u8] = b"re-exports 1";

/// Where the module goes, and what it exports.
struct Plan {
    /// The core instance whose functions are lifted.
    source: u32,
    /// Core modules before the section in which that instance is made.
    modules_before: u32,
    /// Names and types of the functions.
    functions: Vec<(String, FuncType)>,
}

/// A core module of the component, or one that is not in it.
type CoreModule<'a> = Option<&'a [u8]>;

impl Plan {
    fn of(component: &[u8]) -> Option<Self> {
        let mut found = Found::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.ok()?;
            match payload {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.checked_sub(1)?,
                Payload::ModuleSection { ref unchecked_range, .. } if depth == 1 => {
                    found.modules.push(component.get(unchecked_range.clone()));
                }
                payload if depth == 1 => found.read(payload)?,
                // The numbers that it counts on would not be ours to change.
                Payload::ComponentAliasSection(aliases) => {
                    let outer =
                        |alias| matches!(alias, Ok(ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. }) | Err(_));
                    if aliases.into_iter().any(outer) {
                        return None;
                    }
                }
                _ => {}
            }
        }
        found.plan()
    }

    fn carry_out(self, component: &[u8]) -> Option<Vec<u8>> {
        let mut rewritten = Component::new();
        let names = self.functions.iter().map(|(name, _)| name.clone()).collect();
        Rewriter { plan: self, names, instances: 0 }.parse_component(&mut rewritten, Parser::new(0), component).ok()?;
        Some(rewritten.finish())
    }
}

/// What a component says of its core modules, core instances and core functions, by index.
#[derive(Default)]
struct Found<'a> {
    modules: Vec<CoreModule<'a>>,
    /// The core module that each was made from, and how many there were when its section began; none: put together from other things.
    instances: Vec<Option<(u32, u32)>>,
    /// The core instance and the name that each was taken from; none: made by the component.
    functions: Vec<Option<(u32, &'a str)>>,
    lifted: Vec<u32>,
}

impl<'a> Found<'a> {
    fn read(&mut self, payload: Payload<'a>) -> Option<()> {
        match payload {
            Payload::InstanceSection(instances) => {
                let modules = self.modules.len() as u32;
                for instance in instances {
                    self.instances.push(match instance.ok()? {
                        Instance::Instantiate { module_index, .. } => Some((module_index, modules)),
                        Instance::FromExports(_) => None,
                    });
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    if matches!(import.ok()?.ty, ComponentTypeRef::Module(_)) {
                        self.modules.push(None);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    match alias.ok()? {
                        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } => {
                            self.functions.push(Some((instance_index, name)));
                        }
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => self.modules.push(None),
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => return None,
                        _ => {}
                    }
                }
            }
            // An export is a new item of its kind.
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    if export.ok()?.kind == ComponentExternalKind::Module {
                        self.modules.push(None);
                    }
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    match function.ok()? {
                        CanonicalFunction::Lift { core_func_index, .. } => self.lifted.push(core_func_index),
                        // Everything else that the canonical ABI offers is a core function.
                        _ => self.functions.push(None),
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    fn plan(self) -> Option<Plan> {
        let lifted: Vec<(u32, &str)> = self.lifted.iter().filter_map(|index| *self.functions.get(*index as usize)?).collect();
        let (source, _) = *lifted.first()?;
        let (module, modules_before) = (*self.instances.get(source as usize)?)?;
        let module = (*self.modules.get(module as usize)?)?;
        let names: BTreeSet<&str> = lifted.iter().filter(|(instance, _)| *instance == source).map(|(_, name)| *name).collect();
        let functions = names.into_iter().map(|name| Some((name.to_owned(), function_type(module, name)?)));
        Some(Plan { source, modules_before, functions: functions.collect::<Option<_>>()? })
    }
}

/// The type of a function that a core module exports.
fn function_type(module: &[u8], name: &str) -> Option<FuncType> {
    let mut types: Vec<FuncType> = Vec::new();
    let mut functions: Vec<u32> = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::Version { encoding: Encoding::Component, .. } => return None,
            Payload::TypeSection(section) => types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>().ok()?,
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let wasmparser::TypeRef::Func(of) = import.ok()?.ty {
                        functions.push(of);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for of in section {
                    functions.push(of.ok()?);
                }
            }
            Payload::ExportSection(section) => {
                let export = section.into_iter().find_map(|export| export.ok().filter(|export| export.name == name))?;
                let of = *functions.get(export.index as usize)?;
                return (export.kind == ExternalKind::Func).then(|| types.get(of as usize).cloned())?;
            }
            _ => {}
        }
    }
    None
}

/// Copies a component section by section; what is at another number afterwards is named by that.
struct Rewriter {
    plan: Plan,
    names: BTreeSet<String>,
    /// Core instances met.
    instances: u32,
}

impl Rewriter {
    fn module(&mut self) -> Result<Module, reencode::Error> {
        let (mut types, mut imports, mut exports) = (TypeSection::new(), ImportSection::new(), ExportSection::new());
        let functions = self.plan.functions.clone();
        for (index, (name, signature)) in (0..).zip(functions) {
            types.ty().func_type(&self.func_type(signature)?);
            imports.import("", &name, EntityType::Function(index));
            exports.export(&name, ExportKind::Func, index);
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&exports);
        Ok(module)
    }
}

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;
}

/// Only what stands at the top of the component comes here: what is nested is copied as it is.
impl ReencodeComponent for Rewriter {
    fn parse_component_submodule(&mut self, component: &mut Component, _: Parser, module: &[u8]) -> Result<(), reencode::Error> {
        component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
        Ok(())
    }

    fn parse_component_subcomponent(
        &mut self,
        component: &mut Component,
        _: Parser,
        nested: &[u8],
        _: &[u8],
    ) -> Result<(), reencode::Error> {
        component.section(&RawSection { id: ComponentSectionId::Component.into(), data: nested });
        Ok(())
    }

    fn parse_component_payload(&mut self, component: &mut Component, payload: Payload<'_>, whole: &[u8]) -> Result<(), reencode::Error> {
        if let Payload::InstanceSection(section) = &payload {
            let made = self.instances..self.instances + section.count();
            if made.contains(&self.plan.source) {
                component.section(&ModuleSection(&self.module()?));
            }
        }
        component_utils::parse_component_payload(self, component, payload, whole)
    }

    fn parse_instance(&mut self, instances: &mut InstanceSection, instance: Instance<'_>) -> Result<(), reencode::Error> {
        component_utils::parse_instance(self, instances, instance)?;
        if self.instances == self.plan.source {
            instances.instantiate(self.plan.modules_before, [("", ModuleArg::Instance(self.plan.source))]);
        }
        self.instances += 1;
        Ok(())
    }

    fn component_alias<'a>(&mut self, alias: ComponentAlias<'a>) -> Result<Alias<'a>, reencode::Error> {
        match alias {
            ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name }
                if instance_index == self.plan.source && self.names.contains(name) =>
            {
                Ok(Alias::CoreInstanceExport { instance: self.plan.source + 1, kind: ExportKind::Func, name })
            }
            alias => component_utils::component_alias(self, alias),
        }
    }

    fn module_index(&mut self, index: u32) -> u32 {
        index + u32::from(index >= self.plan.modules_before)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        index + u32::from(index > self.plan.source)
    }
}
