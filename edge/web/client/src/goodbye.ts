/**
 * What to do after a socket was closed:
 * `yes` come back, with backoff; `later` the same, but not at once; `credential` only with another token; `no` never
 * with the same URL.
 */
export type ComeBack = 'yes' | 'later' | 'credential' | 'no';

const NEVER = new Set([1002, 1007, 1008, 1009, 4000, 4003, 4004]);

/**
 * Whether to come back after a close code. mobile has two codes of its own: 4001 says that there is no `device_id`, 4002
 * that the device or token is not good.
 */
export function comeBack(code: number, isMobile = false): ComeBack {
  if (NEVER.has(code)) return 'no';
  if (code === 4001) return isMobile ? 'no' : 'credential';
  if (code === 4002) return isMobile ? 'credential' : 'yes';
  return code === 1013 ? 'later' : 'yes';
}
