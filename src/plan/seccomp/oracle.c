/* The libseccomp oracle of the tests: reads a profile and writes the filter that libseccomp makes
 * of it. The other oracle, seccompiler, covers only profiles with one 64-bit architecture and one
 * action besides the default. This program covers the rest: several architectures, several actions,
 * contradicting rules, the order in which overlapping rules are compared, and the time that
 * libseccomp takes. Where it can't be compiled, its tests are skipped.
 *
 * Input: the default answer, the number of architectures, and the architectures. Then each line is
 * a rule: its name, its answer, the number of conditions, and for each condition the argument, the
 * operator and two values.
 * Names that libseccomp doesn't know on an architecture are written to standard error, with the
 * architecture.
 * Exit code 3: libseccomp refused a rule that contradicts another.
 * With the argument `time` it installs the filter instead, and writes how many nanoseconds making
 * and installing took. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct rule {
	char name[64];
	uint32_t answer;
	unsigned count;
	struct scmp_arg_cmp conditions[6];
};

static struct rule rules[8192];
static unsigned length;
static uint32_t standard, archs[16];
static unsigned arch_count;

static int read_profile(void)
{
	if (scanf("%" SCNu32 " %u", &standard, &arch_count) != 2 || arch_count > 16)
		return 2;
	for (unsigned i = 0; i < arch_count; i++)
		if (scanf("%" SCNu32, &archs[i]) != 1)
			return 2;
	struct rule *rule = rules;
	while (scanf("%63s %" SCNu32 " %u", rule->name, &rule->answer, &rule->count) == 3) {
		for (unsigned i = 0; i < rule->count; i++) {
			unsigned argument, op;
			uint64_t a, b;
			if (i >= 6 || scanf("%u %u %" SCNu64 " %" SCNu64, &argument, &op, &a, &b) != 4)
				return 2;
			rule->conditions[i] = (struct scmp_arg_cmp){ argument, op, a, b };
		}
		rule++;
		if (++length == sizeof(rules) / sizeof(rules[0]))
			return 2;
	}
	return 0;
}

/* libseccomp makes up numbers of -10000 and below for calls that an architecture doesn't have. */
static void tell_unknown(uint32_t arch)
{
	for (unsigned i = 0; i < length; i++) {
		int number = seccomp_syscall_resolve_name_arch(arch, rules[i].name);
		if (number == __NR_SCMP_ERROR || number <= -10000)
			fprintf(stderr, "%s %" PRIu32 "\n", rules[i].name, arch);
	}
}

static int make(scmp_filter_ctx filter)
{
	int contradiction = 0;
	for (unsigned i = 0; i < arch_count; i++) {
		int result = seccomp_arch_add(filter, archs[i]);
		if (result != 0 && result != -EEXIST)
			return 2;
	}
	for (unsigned i = 0; i < length; i++) {
		int number = seccomp_syscall_resolve_name(rules[i].name);
		if (number == __NR_SCMP_ERROR || rules[i].answer == standard)
			continue;
		int result = seccomp_rule_add_array(filter, rules[i].answer, number, rules[i].count,
							    rules[i].conditions);
		if (result == -EEXIST)
			contradiction = 1;
		else if (result != 0)
			return 2;
	}
	return contradiction ? 3 : 0;
}

int main(int argc, char **argv)
{
	/* libseccomp never ends for some profiles. */
	const struct rlimit second = { 1, 1 };
	struct timespec begin, end;
	int result = read_profile();
	if (result != 0 || setrlimit(RLIMIT_CPU, &second) != 0)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	scmp_filter_ctx filter = seccomp_init(standard);
	if (filter == NULL)
		return 2;
	result = make(filter);
	if (result == 2)
		return 2;
	if (argc > 1 && strcmp(argv[1], "time") == 0) {
		if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) != 0 || seccomp_load(filter) != 0)
			return 2;
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec);
		return 0;
	}
	tell_unknown(seccomp_arch_native());
	for (unsigned i = 0; i < arch_count; i++)
		tell_unknown(archs[i]);
	return seccomp_export_bpf(filter, 1) != 0 ? 2 : result;
}
