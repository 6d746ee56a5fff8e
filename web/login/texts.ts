import { uiEn, uiZh } from '../ui/texts';

export const en = {
  ...uiEn,
  'login.title': 'Sign in',
  'login.login': 'User name',
  'login.password': 'Password',
  'login.show': 'Show password',
  'login.hide': 'Hide password',
  'login.caps': 'Caps Lock is on.',
  'login.submit': 'Sign in',
  'login.needed': 'Please fill this in.',
  'login.wait': 'Too many attempts. Try again in {n} s.',
  'login.forgot': 'Forgot your password? An administrator can give you a new one.',
} as const;

export const zh: Record<keyof typeof en, string> = {
  ...uiZh,
  'login.title': '登录',
  'login.login': '用户名',
  'login.password': '密码',
  'login.show': '显示密码',
  'login.hide': '隐藏密码',
  'login.caps': '大写锁定已开启。',
  'login.submit': '登录',
  'login.needed': '请填写此项。',
  'login.wait': '尝试次数过多，请在 {n} 秒后重试。',
  'login.forgot': '忘记密码？管理员可以为您设置新密码。',
};
