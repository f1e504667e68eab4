/* The second oracle of the tests: reads a profile as numbers, and writes the filter that libseccomp makes of it.
 * Input: the default answer, the number of architectures and they; then a rule a line: name, answer, number of conditions,
 * and for each its argument, operator and two values. Names that libseccomp doesn't know on one of the architectures go
 * to standard error, with that.
 * Exit code 3: libseccomp refused a rule that contradicts another. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/resource.h>

int main(void)
{
	uint32_t answer;
	unsigned count;
	int contradiction = 0;
	char name[128];
	const struct rlimit second = { 1, 1 };
	uint32_t archs[16] = { 0 };
	unsigned known = 0;

	/* Some profiles make libseccomp walk in circles. */
	if (setrlimit(RLIMIT_CPU, &second) != 0)
		return 2;
	if (scanf("%" SCNu32 " %u", &answer, &count) != 2)
		return 2;
	const uint32_t standard = answer;
	scmp_filter_ctx filter = seccomp_init(standard);
	if (filter == NULL)
		return 2;
	archs[known++] = seccomp_arch_native();
	while (count-- > 0) {
		uint32_t arch;
		if (scanf("%" SCNu32, &arch) != 1)
			return 2;
		int result = seccomp_arch_add(filter, arch);
		if (result != 0 && result != -EEXIST)
			return 2;
		if (result == 0 && known < 16)
			archs[known++] = arch;
	}
	while (scanf("%127s %" SCNu32 " %u", name, &answer, &count) == 3) {
		struct scmp_arg_cmp conditions[6];
		for (unsigned i = 0; i < count; i++) {
			unsigned argument, op;
			uint64_t a, b;
			if (i >= 6 || scanf("%u %u %" SCNu64 " %" SCNu64, &argument, &op, &a, &b) != 4)
				return 2;
			conditions[i] = (struct scmp_arg_cmp){ argument, op, a, b };
		}
		int number = seccomp_syscall_resolve_name(name);
		/* Numbers below these are made up for calls that an architecture doesn't have. */
		for (unsigned i = 0; i < known; i++) {
			int there = seccomp_syscall_resolve_name_arch(archs[i], name);
			if (there == __NR_SCMP_ERROR || there <= -10000)
				fprintf(stderr, "%s %" PRIu32 "\n", name, archs[i]);
		}
		if (number == __NR_SCMP_ERROR || answer == standard)
			continue;
		int result = seccomp_rule_add_array(filter, answer, number, count, conditions);
		if (result == -EEXIST)
			contradiction = 1;
		else if (result != 0)
			return 2;
	}
	if (seccomp_export_bpf(filter, 1) != 0)
		return 2;
	return contradiction ? 3 : 0;
}
