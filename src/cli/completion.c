/* ferrum completion: completions for bash, zsh and fish, out of the tables of commands and options. */
#include "hub.h"
#include "pages.h"

#include <stddef.h>
#include <string.h>

const char *const cli_shells[] = {"bash", "zsh", "fish", NULL};

static const cli_option *option_at(const cli_command *c, size_t index) {
    for (const cli_option *o = c->options; o->name; o++)
        if (index-- == 0) return o;
    return index == 0 ? &cli_help_option : NULL;
}

/* What a command's first argument is. */
typedef enum subject { NOTHING, MODEL, NAME, SHELL } subject;

static subject subject_of(const cli_command *c) {
    static const char *const words[] = {"", "MODEL", "NAME", "SHELL"};
    for (subject s = SHELL; s > NOTHING; s--)
        if (strncmp(c->arguments, words[s], strlen(words[s])) == 0) return s;
    return NOTHING;
}

static void put_choices(FILE *out, const char *const *choices) {
    for (size_t i = 0; choices[i]; i++) fprintf(out, "%s%s", i ? " " : "", choices[i]);
}

static void put_commands(FILE *out) {
    const cli_command *c;
    for (size_t i = 0; (c = cli_command_at(i)); i++) fprintf(out, "%s ", c->name);
    fputs("help", out);
}

static void put_model_names(FILE *out) {
    const char *name, *repo;
    for (size_t i = 0; (name = cli_known_name(i)); i++) fprintf(out, "%s ", name);
    for (size_t i = 0; (name = hub_alias(i, &repo)); i++) fprintf(out, "%s%s", i ? " " : "", name);
}

/* Up to its first semicolon, in one pair of quotes, `special` characters behind a backslash. */
static void put_quoted(FILE *out, const char *text, const char *special, const char *quote) {
    for (size_t len = strcspn(text, ";"); len; len--, text++) {
        if (*text == '\'')
            fputs(quote, out);
        else
            fprintf(out, strchr(special, *text) ? "\\%c" : "%c", *text);
    }
}

/* ---- bash ---------------------------------------------------------------------------------------------------------------- */

/* `  command:--option | command:-o) ` */
static void put_case(FILE *out, const cli_command *c, const cli_option *o) {
    fprintf(out, "  %s:--%s", c->name, o->name);
    if (o->letter) fprintf(out, " | %s:-%c", c->name, o->letter);
    fputs(") ", out);
}

static void bash_tables(FILE *out) {
    const cli_command *c;
    const cli_option *o;
    fputs("_ferrum_options() {\n  case $1 in\n", out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) {
        fprintf(out, "  %s) echo '", c->name);
        for (size_t j = 0; (o = option_at(c, j)); j++) {
            fprintf(out, "%s--%s", j ? " " : "", o->name);
            if (o->letter) fprintf(out, " -%c", o->letter);
        }
        fputs("' ;;\n", out);
    }
    fputs("  esac\n}\n\n# What an option's value may be; status 1: it takes none.\n_ferrum_values() {\n  case $1 in\n",
          out);
    for (size_t i = 0; (c = cli_command_at(i)); i++)
        for (size_t j = 0; (o = option_at(c, j)); j++) {
            if (o->kind == CLI_FLAG) continue;
            put_case(out, c, o);
            fputs(o->choices ? "echo '" : ":", out);
            if (o->choices) put_choices(out, o->choices);
            fputs(o->choices ? "' ;;\n" : " ;;\n", out);
        }
    fputs("  *) return 1 ;;\n  esac\n}\n\n_ferrum_subject() {\n  case $1 in\n", out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) {
        static const char *const names[] = {"", "model", "name", "shell"};
        if (subject_of(c) != NOTHING) fprintf(out, "  %s) echo %s ;;\n", c->name, names[subject_of(c)]);
    }
    fputs("  help) echo command ;;\n  esac\n}\n", out);
}

static void write_bash(FILE *out) {
    fputs("# Completions of ferrum for bash.\n\n", out);
    bash_tables(out);
    fputs("\n_ferrum_names() {\n  echo '", out);
    put_model_names(out);
    fputs("'\n  ferrum list 2>/dev/null | { read -r _; while read -r name _; do echo \"$name\"; done; "
          "}\n}\n\n_ferrum() {\n"
          "  local line=${COMP_LINE:0:COMP_POINT} words word before command values list='' files=''\n"
          "  read -ra words <<<\"$line\"\n"
          "  case $line in *[[:space:]]) words+=('') ;; esac\n"
          "  word=${words[-1]} before=${words[-2]-} command=${words[1]-}\n"
          "  COMPREPLY=()\n"
          "  if [ \"${#words[@]}\" -le 2 ]; then\n"
          "    list='",
          out);
    put_commands(out);
    fputs(" --help --version'\n"
          "  elif [[ $word == --*=* ]]; then\n"
          "    list=$(_ferrum_values \"$command:${word%%=*}\") || return\n"
          "    list=$(printf -- \"${word%%=*}=%s\\n\" $list)\n"
          "  elif values=$(_ferrum_values \"$command:$before\"); then\n"
          "    list=$values\n"
          "    [ -n \"$list\" ] || files='*'\n"
          "  elif [[ $word == -* ]]; then\n"
          "    list=$(_ferrum_options \"$command\")\n"
          "  else\n"
          "    case $(_ferrum_subject \"$command\") in\n"
          "    model) list=$(_ferrum_names) files='*' ;;\n"
          "    name) list=$(_ferrum_names) ;;\n"
          "    shell) list='",
          out);
    put_choices(out, cli_shells);
    fputs("' ;;\n    command) list='", out);
    put_commands(out);
    fputs("' ;;\n    esac\n  fi\n"
          "  local IFS=$'\\n'\n"
          "  COMPREPLY=($(compgen -W \"${list// /$'\\n'}\" -- \"$word\"))\n"
          "  [ -z \"$files\" ] || COMPREPLY+=($(compgen -f -- \"$word\"))\n"
          "  # Readline replaces what stands behind the last of its word breaks alone.\n"
          "  local head=${word%\"${word##*[:=]}\"}\n"
          "  case $COMP_WORDBREAKS in *:*) COMPREPLY=(\"${COMPREPLY[@]#\"$head\"}\") ;; esac\n"
          "}\n\ncomplete -o filenames -o bashdefault -F _ferrum ferrum\n",
          out);
}

/* ---- zsh ----------------------------------------------------------------------------------------------------------------- */

static void zsh_option(FILE *out, const cli_option *o) {
    bool repeated = o->kind == CLI_STRINGS, flag = o->kind == CLI_FLAG;
    fputs(" \\\n      ", out);
    if (repeated)
        fputs("'*'", out);
    else if (o->letter)
        fprintf(out, "'(-%c --%s)'", o->letter, o->name);
    if (o->letter)
        fprintf(out, "{-%c%s,--%s%s}", o->letter, flag ? "" : "+", o->name, flag ? "" : "=");
    else
        fprintf(out, "--%s%s", o->name, flag ? "" : "=");
    fputs("'[", out);
    put_quoted(out, o->help, "[]:\\", "'\\''");
    fputc(']', out);
    if (!flag) fprintf(out, ":%s:", o->argument);
    if (o->choices) {
        fputc('(', out);
        put_choices(out, o->choices);
        fputc(')', out);
    } else if (!flag) {
        fputs("_files", out);
    }
    fputc('\'', out);
}

static void zsh_command(FILE *out, const cli_command *c) {
    const cli_option *o;
    fprintf(out, "  %s)\n    _arguments -s", c->name);
    for (size_t j = 0; (o = option_at(c, j)); j++) zsh_option(out, o);
    switch (subject_of(c)) {
    case MODEL: fputs(" \\\n      '1:model:_ferrum_models' '*:argument:_files'", out); break;
    case NAME: fputs(" \\\n      '1:model:_ferrum_names'", out); break;
    case SHELL:
        fputs(" \\\n      '1:shell:(", out);
        put_choices(out, cli_shells);
        fputs(")'", out);
        break;
    case NOTHING: break;
    }
    fputs(" ;;\n", out);
}

static void write_zsh(FILE *out) {
    const cli_command *c;
    fputs("#compdef ferrum\n# Completions of ferrum for zsh.\n\n_ferrum_names() {\n  local -a names\n  names=(", out);
    put_model_names(out);
    fputs(" ${${${(f)\"$(ferrum list 2>/dev/null)\"}[2,-1]}%% *})\n  compadd -a names\n}\n\n"
          "_ferrum_models() {\n  _ferrum_names\n  _files\n}\n\n_ferrum() {\n  local -a commands\n  commands=(",
          out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) {
        fprintf(out, "\n    '%s:", c->name);
        put_quoted(out, c->about, ":\\", "'\\''");
        fputc('\'', out);
    }
    fputs("\n    'help:Tells the options of a command.'\n  )\n"
          "  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
          "  shift words\n  (( CURRENT-- ))\n  case $words[1] in\n  help) _describe command commands ;;\n",
          out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) zsh_command(out, c);
    fputs("  esac\n}\n\n[[ $funcstack[1] != _ferrum ]] || _ferrum \"$@\"\n(( ! $+functions[compdef] )) || compdef "
          "_ferrum ferrum\n",
          out);
}

/* ---- fish ---------------------------------------------------------------------------------------------------------------- */

static void fish_option(FILE *out, const cli_command *c, const cli_option *o) {
    fprintf(out, "complete -c ferrum -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (o->letter) fprintf(out, " -s %c", o->letter);
    if (o->choices) {
        fputs(" -x -a '", out);
        put_choices(out, o->choices);
        fputc('\'', out);
    } else if (o->kind != CLI_FLAG) {
        fputs(" -r", out);
    }
    fputs(" -d '", out);
    put_quoted(out, o->help, "\\", "\\'");
    fputs("'\n", out);
}

static void fish_subject(FILE *out, const cli_command *c) {
    subject s = subject_of(c);
    if (s == NOTHING) return;
    fprintf(out, "complete -c ferrum -n '__fish_seen_subcommand_from %s' %s-a '", c->name, s == MODEL ? "" : "-f ");
    if (s == SHELL)
        put_choices(out, cli_shells);
    else
        fputs("(__ferrum_names)", out);
    fputs("'\n", out);
}

static void write_fish(FILE *out) {
    const cli_command *c;
    const cli_option *o;
    fputs("# Completions of ferrum for fish.\n\nfunction __ferrum_names\n    printf '%s\\n' ", out);
    put_model_names(out);
    fputs("\n    ferrum list 2>/dev/null | string match -r '^\\S+' | tail -n +2\nend\n\n", out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) {
        fprintf(out, "complete -c ferrum -f -n __fish_use_subcommand -a %s -d '", c->name);
        put_quoted(out, c->about, "\\", "\\'");
        fputs("'\n", out);
    }
    fputs("complete -c ferrum -f -n __fish_use_subcommand -a help -d 'Tells the options of a command.'\n"
          "complete -c ferrum -f -n '__fish_seen_subcommand_from help' -a '",
          out);
    put_commands(out);
    fputs("'\n", out);
    for (size_t i = 0; (c = cli_command_at(i)); i++) {
        fish_subject(out, c);
        for (size_t j = 0; (o = option_at(c, j)); j++) fish_option(out, c, o);
    }
}

void cli_write_completion(FILE *out, const char *shell) {
    if (strcmp(shell, "bash") == 0)
        write_bash(out);
    else if (strcmp(shell, "zsh") == 0)
        write_zsh(out);
    else
        write_fish(out);
}

/* ---- The command ------------------------------------------------------------------------------------------------------------ */

static const char *shell_name(const void *user, size_t index) {
    (void)user;
    return cli_shells[index];
}

static const cli_option options[] = {{0}};

static int run(int argc, char **argv) {
    cli_args args = {0};
    int status = cli_parse(&cli_completion_command, argc, argv, NULL, &args);
    if (status != CLI_GO_ON) return status;
    const char *shell = args.items[0], *nearest = cli_nearest(shell, shell_name, NULL);
    if (strcmp(shell, nearest) != 0)
        return cli_fail(CLI_USAGE, "there are completions for bash, zsh and fish, not for %s", shell);
    cli_write_completion(stdout, shell);
    return CLI_OK;
}

const cli_command cli_completion_command = {
    .name = "completion",
    .arguments = "SHELL",
    .about = "Prints completions for bash, zsh or fish.",
    .details = "They are installed with the program where the shells look for them. By hand:\n"
               "\n"
               "  source <(ferrum completion bash)          # in ~/.bashrc; zsh the same way\n"
               "  ferrum completion fish >~/.config/fish/completions/ferrum.fish\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = run,
};
