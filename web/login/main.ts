import '../ui/tokens.css';
import '../ui/base.css';
import '../ui/controls.css';
import { mount } from 'svelte';
import { readBoot } from '../core/src/boot';
import { applyTheme, savedTheme } from '../ui/theme';
import App from './App.svelte';

applyTheme(savedTheme());
const target = document.getElementById('app') ?? document.body;
mount(App, { target, props: { boot: readBoot() } });
