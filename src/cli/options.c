/* One parser for every command's options, driven by its table. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const cli_option cli_help_option = {.name = "help", .letter = 'h', .kind = CLI_FLAG, .help = "print this and exit"};

enum { NAME_MAX_LEN = 31, HELP_COLUMN = 29, HELP_WIDTH = 80 };

static size_t least(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance (insert, delete, replace, swap neighbours), of the first NAME_MAX_LEN bytes. */
static size_t distance(const char *a, const char *b) {
    size_t rows[3][NAME_MAX_LEN + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    size_t na = strnlen(a, NAME_MAX_LEN), nb = strnlen(b, NAME_MAX_LEN);
    for (size_t j = 0; j <= nb; j++) last[j] = before[j] = j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            now[j] = least(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        size_t *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[nb];
}

const char *cli_nearest(const char *name, const char *(*known)(const void *user, size_t index), const void *user) {
    const char *best = NULL, *candidate;
    size_t best_distance = SIZE_MAX, len = strlen(name);
    for (size_t i = 0; (candidate = known(user, i)); i++) {
        /* A shortened name means the whole one, however long that is. */
        bool shortened = len > 1 && strncmp(name, candidate, len) == 0;
        size_t d = shortened ? 1 : distance(name, candidate);
        if (d >= best_distance) continue;
        best = candidate;
        best_distance = d;
    }
    return best;
}

static const char *option_name(const void *user, size_t index) {
    const cli_option *options = user;
    size_t i = 0;
    while (options[i].name && i < index) i++;
    if (i < index) return NULL;
    return options[i].name ? options[i].name : cli_help_option.name;
}

static int unknown_option(const cli_command *command, const char *given) {
    const char *name = given;
    while (*name == '-') name++;
    char text[NAME_MAX_LEN + 1] = "";
    for (size_t i = 0; i < NAME_MAX_LEN && name[i] && name[i] != '='; i++) text[i] = name[i];
    const char *nearest = cli_nearest(text, option_name, command->options);
    return cli_fail(CLI_USAGE, "unknown option %.*s; the nearest is --%s (ferrum %s --help lists them all)",
                    (int)strcspn(given, "="), given, nearest, command->name);
}

static const cli_option *find_long(const cli_command *command, const char *name, size_t len) {
    for (const cli_option *o = command->options; o->name; o++)
        if (strncmp(o->name, name, len) == 0 && o->name[len] == '\0') return o;
    return strncmp("help", name, len) == 0 && len == 4 ? &cli_help_option : NULL;
}

static const cli_option *find_short(const cli_command *command, char letter) {
    for (const cli_option *o = command->options; o->name; o++)
        if (o->letter == letter) return o;
    return letter == 'h' ? &cli_help_option : NULL;
}

static int out_of_range(const cli_option *o, const char *value) {
    if (o->kind == CLI_COUNT)
        return cli_fail(CLI_USAGE, "--%s is %s; it must be a whole number from %.0f to %.0f", o->name, value, o->min,
                        o->max);
    const char *from = o->above_min ? "above" : "at least";
    if (isinf(o->min)) return cli_fail(CLI_USAGE, "--%s is %s; it must be a number", o->name, value);
    if (isinf(o->max))
        return cli_fail(CLI_USAGE, "--%s is %s; it must be a number %s %g", o->name, value, from, o->min);
    return cli_fail(CLI_USAGE, "--%s is %s; it must be %s %g and at most %g", o->name, value, from, o->min, o->max);
}

static bool parse_whole(const char *text, uint64_t *out) {
    if (!isdigit((unsigned char)*text)) return false; /* strtoull would take blanks and signs */
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static int set_number(const cli_option *o, const char *value, float *out) {
    char *end = NULL;
    double d = strtod(value, &end);
    /* strtod alone would take blanks, hexadecimal, and words such as nan. */
    bool number = *value && value[strspn(value, "+-.0123456789eE")] == '\0' && *end == '\0' && isfinite((float)d);
    if (!number || d < o->min || d > o->max || (o->above_min && d <= o->min)) return out_of_range(o, value);
    *out = (float)d;
    return CLI_GO_ON;
}

/* "it must be a, b or c" */
static int not_a_choice(const cli_option *o, const char *value) {
    char list[128] = "";
    for (size_t i = 0; o->choices[i]; i++) {
        size_t len = strlen(list);
        const char *joint = i == 0 ? "" : o->choices[i + 1] ? ", " : " or ";
        snprintf(list + len, sizeof list - len, "%s%s", joint, o->choices[i]);
    }
    return cli_fail(CLI_USAGE, "--%s is %s; it must be %s", o->name, value, list);
}

static bool is_choice(const cli_option *o, const char *choice, const char *value) {
    size_t len = strlen(choice);
    if (strncmp(choice, value, len) != 0) return false;
    if (value[len] == '\0') return true;
    const char *digits = value + len + 1;
    bool numbered = o->numbered && strcmp(choice, o->numbered) == 0;
    return numbered && value[len] == ':' && *digits && digits[strspn(digits, "0123456789")] == '\0';
}

static int set_string(const cli_option *o, const char *value, const char **out) {
    const char *const *choice = o->choices;
    while (choice && *choice && !is_choice(o, *choice, value)) choice++;
    if (choice && !*choice) return not_a_choice(o, value);
    *out = value;
    return CLI_GO_ON;
}

static int set_value(const cli_option *o, const char *value, void *values) {
    void *field = (char *)values + o->offset;
    uint64_t whole;
    switch (o->kind) {
    case CLI_FLAG: *(bool *)field = true; return CLI_GO_ON;
    case CLI_COUNT:
        if (!parse_whole(value, &whole) || (double)whole < o->min || (double)whole > o->max)
            return out_of_range(o, value);
        *(uint32_t *)field = (uint32_t)whole;
        return CLI_GO_ON;
    case CLI_SEED:
        if (!parse_whole(value, &whole) || whole > INT64_MAX) /* what JSON can tell */
            return cli_fail(CLI_USAGE, "--%s is %s; it must be a whole number from 0 to %lld", o->name, value,
                            (long long)INT64_MAX);
        *(cli_seed *)field = (cli_seed){true, whole};
        return CLI_GO_ON;
    case CLI_NUMBER: return set_number(o, value, field);
    case CLI_STRING: return set_string(o, value, field);
    case CLI_STRINGS: break;
    }
    cli_strings *list = field;
    if (list->count == CLI_STRINGS_MAX)
        return cli_fail(CLI_USAGE, "--%s is given more than %d times", o->name, CLI_STRINGS_MAX);
    list->items[list->count++] = value;
    return CLI_GO_ON;
}

/* --name, --name=value or --name value; *i is left on the last argument that was used. */
static int parse_long(const cli_command *command, int argc, char **argv, int *i, void *values) {
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] ? name + len + 1 : NULL;
    const cli_option *o = find_long(command, name, len);
    if (!o) return unknown_option(command, argv[*i]);
    if (o == &cli_help_option) return cli_print_help(command), CLI_OK;
    if (o->kind == CLI_FLAG) {
        if (value) return cli_fail(CLI_USAGE, "--%s takes no value", o->name);
    } else if (!value) {
        if (*i + 1 == argc) return cli_fail(CLI_USAGE, "--%s needs a value: %s", o->name, o->argument);
        value = argv[++*i];
    }
    return set_value(o, value, values);
}

/* -n 5, -n5; -y. */
static int parse_short(const cli_command *command, int argc, char **argv, int *i, void *values) {
    const char *text = argv[*i] + 1;
    const cli_option *o = find_short(command, *text);
    if (!o) return unknown_option(command, argv[*i]);
    if (o == &cli_help_option) return cli_print_help(command), CLI_OK;
    const char *value = text[1] ? text + 1 : NULL;
    if (o->kind == CLI_FLAG) {
        if (value) return cli_fail(CLI_USAGE, "-%c takes no value", o->letter);
    } else if (!value) {
        if (*i + 1 == argc) return cli_fail(CLI_USAGE, "-%c needs a value: %s", o->letter, o->argument);
        value = argv[++*i];
    }
    return set_value(o, value, values);
}

static int add_argument(const cli_command *command, char *text, cli_args *args) {
    if (args->count == command->max_args)
        return cli_fail(CLI_USAGE, "one argument too many: %s (usage: ferrum %s [OPTION]... %s)", text, command->name,
                        command->arguments);
    args->items[args->count++] = text;
    return CLI_GO_ON;
}

int cli_parse(const cli_command *command, int argc, char **argv, void *values, cli_args *args) {
    bool options = true;
    *args = (cli_args){.items = argv}; /* of which the first are read by the time that an argument is kept there */
    for (int i = 1; i < argc; i++) {
        int status;
        char *text = argv[i];
        if (options && strcmp(text, "--") == 0) {
            options = false;
            continue;
        }
        if (!options || text[0] != '-' || text[1] == '\0')
            status = add_argument(command, text, args);
        else if (text[1] == '-')
            status = parse_long(command, argc, argv, &i, values);
        else
            status = parse_short(command, argc, argv, &i, values);
        if (status != CLI_GO_ON) return status;
    }
    if (args->count < command->min_args)
        return cli_fail(CLI_USAGE, "an argument is missing (usage: ferrum %s [OPTION]... %s)", command->name,
                        command->arguments);
    return CLI_GO_ON;
}

/* Text from column HELP_COLUMN on, broken at blanks; the cursor stands at `column`. */
static void print_wrapped(const char *text, int column) {
    if (column >= HELP_COLUMN) column = (putchar('\n'), 0);
    printf("%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH)
            column = (printf("\n%*s", HELP_COLUMN, ""), HELP_COLUMN);
        else if (column > HELP_COLUMN)
            column += (putchar(' '), 1);
        column += printf("%.*s", word, text);
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_option(const cli_option *o) {
    int column = o->letter ? printf("  -%c, ", o->letter) : printf("      ");
    column += printf("--%s", o->name);
    if (o->argument) column += printf(" %s", o->argument);
    print_wrapped(o->help, column);
}

void cli_print_help(const cli_command *command) {
    printf("usage: ferrum %s [OPTION]...%s%s\n\n%s\n\n", command->name, *command->arguments ? " " : "",
           command->arguments, command->about);
    for (const cli_option *o = command->options; o->name; o++) print_option(o);
    print_option(&cli_help_option);
    printf("\n%s", command->details);
    if (strstr(command->arguments, "MODEL")) cli_print_known_models();
    printf("\nExit status: 0; 1 failed; 2 wrong usage; 130 interrupted.\n");
}
